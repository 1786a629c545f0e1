"""gpuio as the data loader of Accelerate."""

from __future__ import annotations

import pytest

from gpuio import ImageRecordIter

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow


@pytest.fixture
def make(rec):
    made = []

    def make_():
        made.append(ImageRecordIter(rec, (3, 16, 16), 4, shuffle=True).torch())
        return made[-1]

    yield make_
    for loader in made:
        loader.close()


def train(loader, folder, *, steps, resume=False):
    """The labels of so many steps, the state of which is saved at the end; and the weights."""
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(3 * 16 * 16, 13)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model, optimizer, prepared = accelerator.prepare(model, optimizer, loader)
    assert prepared is loader
    accelerator.register_for_checkpointing(loader)
    if resume:
        accelerator.load_state(str(folder))
    seen = []
    while len(seen) < steps:
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(model(images.flatten(1) / 255), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            seen.append(labels.tolist())
            if len(seen) == steps:
                break
    accelerator.save_state(str(folder))
    accelerator.free_memory()
    return seen, accelerator.unwrap_model(model).weight.detach().clone()


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_training_continues_with_the_next_batch(make, tmp_path, steps):
    whole, weight = train(make(), tmp_path / "whole", steps=10)
    before, _ = train(make(), tmp_path / "state", steps=steps)
    after, again = train(make(), tmp_path / "state", steps=10 - steps, resume=True)
    assert before + after == whole
    assert torch.equal(weight, again)
