"""gpuio as the data loader of Lightning."""

from __future__ import annotations

import warnings

import pytest

from gpuio import ImageRecordIter

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Model(lightning.LightningModule):
    """Keeps what it is trained with, and validated with, in order."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 16 * 16, 13)
        self.seen, self.validated = [], []

    def training_step(self, batch, number):
        images, labels = batch
        self.seen.append((self.current_epoch, number, labels.tolist()))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1) / 255), labels)

    def validation_step(self, batch, number):
        self.validated.append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.fixture
def make(rec):
    made = []

    def make_(**options):
        made.append(ImageRecordIter(rec, (3, 16, 16), 4, **options).torch())
        return made[-1]

    yield make_
    for loader in made:
        loader.close()


def fit(loader, folder, *, ckpt=None, validation=None, **options):
    """A trained model, and its trainer."""
    torch.manual_seed(0)
    model = Model()
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(model, loader, validation, ckpt_path=ckpt)
    return model, trainer


def test_each_epoch_has_all_batches_of_its_own(make, tmp_path):
    model, _ = fit(make(shuffle=True), tmp_path, max_epochs=3)
    source = make(shuffle=True).source
    expected = []
    for epoch in range(3):
        source.set_epoch(epoch)
        batches = [batch.label[0].tolist() for batch in source]
        expected += [(epoch, number, labels) for number, labels in enumerate(batches)]
    assert model.seen == expected


class SaveAndStop(lightning.Callback):
    """Saves after a step, and ends the run as a signal would."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 3, 4, 6, 8, 11])
def test_training_continues_with_the_next_batch(make, tmp_path, step):
    whole, _ = fit(make(shuffle=True), tmp_path, max_epochs=3)
    path = tmp_path / "step.ckpt"
    with pytest.raises(SystemExit):
        fit(make(shuffle=True), tmp_path, max_epochs=3, callbacks=[SaveAndStop(path, step)])
    after, _ = fit(make(shuffle=True), tmp_path, max_epochs=3, ckpt=path)
    assert after.seen == whole.seen[step:]
    for mine, theirs in zip(after.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("epochs", [1, 2])
def test_after_whole_epochs_comes_the_next_one(make, tmp_path, epochs):
    whole, _ = fit(make(shuffle=True), tmp_path, max_epochs=3)
    _, trainer = fit(make(shuffle=True), tmp_path, max_epochs=epochs)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    after, _ = fit(make(shuffle=True), tmp_path, max_epochs=3, ckpt=tmp_path / "epoch.ckpt")
    assert after.seen == whole.seen[4 * epochs :]


def test_validation_has_all_batches_each_time(make, tmp_path):
    model, _ = fit(make(), tmp_path, validation=make(last_batch="short"), max_epochs=2)
    everything = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12]]
    assert model.validated == everything[:2] + 2 * everything  # two for the sanity check


def test_epochs_may_be_limited(make, tmp_path):
    model, _ = fit(make(shuffle=True), tmp_path, max_epochs=3, limit_train_batches=2)
    assert [(epoch, number) for epoch, number, _ in model.seen] == [
        (epoch, number) for epoch in range(3) for number in range(2)
    ]
