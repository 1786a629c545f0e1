"""ImageRecordIter.torch()."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import numpy as np
import numpy.testing as npt
import pytest
from harness import open_device

from gpuio import ImageDetRecordIter, ImageRecordIter
from gpuio.testing import draw, encode, write_rec

torch = pytest.importorskip("torch")

SHAPE = (3, 16, 16)


@pytest.fixture
def make(rec):
    made = []

    def make_(batch_size=4, **options):
        made.append(ImageRecordIter(options.pop("path_imgrec", rec), SHAPE, batch_size, **options))
        return made[-1]

    yield make_
    for it in made:
        it.close()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_batches_are_tensors_over_the_same_memory(make, dtype, layout):
    source = make(dtype=dtype, layout=layout)
    for (images, labels), expected in zip(
        source.torch(), make(dtype=dtype, layout=layout), strict=True
    ):
        assert images.data_ptr() == source.getdata()[0].ctypes.data
        assert (images.dtype, labels.dtype) == (getattr(torch, dtype), torch.int64)
        npt.assert_array_equal(images.numpy(), expected.data[0])
        npt.assert_array_equal(labels.numpy(), expected.label[0])


def test_the_last_batch_may_be_short(make):
    sizes = [(len(images), len(labels)) for images, labels in make(last_batch="short").torch()]
    assert sizes == [(4, 4), (4, 4), (4, 4), (1, 1)]


@pytest.mark.parametrize(
    "refer",
    [
        lambda images: images,
        lambda images: images[1:, :, ::2],
        lambda images: images.permute(0, 2, 3, 1),
        lambda images: images.detach().view(-1),
        lambda images: images.numpy(),
        lambda images: torch.from_dlpack(images[2:]),
        lambda images: images.untyped_storage(),
    ],
)
def test_memory_that_a_tensor_refers_to_is_not_used_again(make, refer):
    source = make(batch_size=13, dtype="uint8", shuffle=True)
    loader = source.torch()
    images, _ = next(iter(loader))
    expected, place = images.clone(), images.data_ptr()
    held = refer(images)
    del images
    for _ in range(6):
        for images, _ in loader:
            assert images.data_ptr() != place
    memory = (ctypes.c_uint8 * expected.numel()).from_address(place)
    npt.assert_array_equal(np.asarray(memory), expected.reshape(-1).numpy())
    del held, images
    gc.collect()
    assert place in {images.data_ptr() for _ in range(6) for images, _ in loader}


def test_tensors_outlive_the_loader(make):
    with make().torch() as loader:
        images, _ = next(iter(loader))
    del loader
    gc.collect()
    npt.assert_array_equal(images.numpy(), next(make()).data[0])


def test_channels_last_takes_no_copy_from_nhwc(make):
    source = make(layout="NHWC")
    for (images, _), expected in zip(source.torch(channels_last=True), make(), strict=True):
        assert images.data_ptr() == source.getdata()[0].ctypes.data
        assert images.is_contiguous(memory_format=torch.channels_last)
        npt.assert_array_equal(images.numpy(), expected.data[0])


def test_channels_last_is_made_of_nchw(make):
    for (images, _), expected in zip(make().torch(channels_last=True), make(), strict=True):
        assert images.is_contiguous(memory_format=torch.channels_last)
        npt.assert_array_equal(images.numpy(), expected.data[0])


def test_out_is_filled_and_returned_each_time(make):
    out = torch.empty(4, *SHAPE), torch.empty(4, dtype=torch.int32)
    for (images, labels), expected in zip(make().torch(out=out), make(), strict=True):
        assert images.data_ptr() == out[0].data_ptr()
        assert labels.data_ptr() == out[1].data_ptr()
        npt.assert_array_equal(out[0].numpy(), expected.data[0])
        npt.assert_array_equal(out[1].numpy(), expected.label[0])


def test_out_of_a_short_batch_is_its_first_rows(make):
    out = torch.empty(4, *SHAPE), torch.empty(4, dtype=torch.int64)
    *_, (images, labels) = make(last_batch="short").torch(out=out)
    assert images.data_ptr() == out[0].data_ptr()
    assert (tuple(images.shape), labels.tolist()) == ((1, *SHAPE), [12])


def test_out_may_have_another_layout_and_dtype(make):
    images = torch.empty(4, *SHAPE, dtype=torch.bfloat16, memory_format=torch.channels_last)
    loader = make(layout="NHWC", dtype="uint8").torch(
        channels_last=True, out=(images, torch.empty(4))
    )
    _, labels = next(iter(loader))
    expected = next(make())
    npt.assert_array_equal(images.float().numpy(), expected.data[0])
    npt.assert_array_equal(labels.numpy(), expected.label[0])


def test_labels_that_are_not_whole_fit_into_floats(make, tmp_path):
    path = tmp_path / "a.rec"
    write_rec(path, [encode(draw(20, 20))] * 4, labels=[0.5, 1, 2, 3])
    out = torch.empty(4, *SHAPE), torch.empty(4)
    _, labels = next(iter(make(path_imgrec=path).torch(out=out)))
    assert labels.tolist() == [0.5, 1, 2, 3]


def test_out_of_another_shape_is_refused(make):
    out = torch.empty(4, 16, 16, 3), torch.empty(4)
    make(layout="NHWC").torch(out=out)
    for options in ({}, {"layout": "NHWC"}):
        with pytest.raises(ValueError, match=r"out must have tensors of the shapes \[\(4, 3, 16"):
            make(**options).torch(out=out, channels_last=True)
    with pytest.raises(ValueError, match="out must have tensors of the shapes"):
        make().torch(out=[torch.empty(4, *SHAPE)] * 3)


def test_masks_come_third(make, tmp_path):
    masks, path = [draw(20, 24, 1, seed=n) for n in range(6)], tmp_path / "images.rec"
    write_rec(path, [encode(draw(20, 24, seed=n)) for n in range(6)])
    write_rec(tmp_path / "masks.rec", [encode(mask) for mask in masks])
    options = {"path_imgrec": path, "masks": tmp_path / "masks.rec", "layout": "NHWC"}
    for out in (None, [torch.empty(4, *SHAPE), torch.empty(4), torch.empty(4, 16, 16)]):
        loader = make(**options).torch(channels_last=True, out=out)
        for (_, labels, found), batch in zip(loader, make(**options), strict=True):
            npt.assert_array_equal(found.numpy(), batch.masks)
            npt.assert_array_equal(labels.numpy(), batch.label[0])
        assert found.shape == (4, 16, 16)


@pytest.mark.parametrize("count", [0, 1])
def test_out_without_labels_is_refused(make, count):
    with pytest.raises(ValueError, match="out must have tensors of the shapes"):
        make().torch(out=[torch.empty(4, *SHAPE)] * count)


def test_detection_labels_are_floats(tmp_path):
    path = tmp_path / "boxes.rec"
    label = [2, 5, 1, 0.1, 0.2, 0.6, 0.7]
    write_rec(path, [encode(draw(20, 20))] * 4, labels=[label] * 4)
    with ImageDetRecordIter(path, SHAPE, 4).torch() as loader:
        images, labels = next(iter(loader))
    assert tuple(images.shape) == (4, *SHAPE)
    assert labels.dtype == torch.float32
    npt.assert_allclose(labels[0].numpy()[4:], label, rtol=1e-5)


def test_a_state_can_be_pickled_and_saved_by_torch(make, tmp_path):
    loader = make(shuffle=True).torch()
    next(iter(loader))
    torch.save(loader.state_dict(), tmp_path / "state.pt")
    other = make(shuffle=True).torch()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    full = list(make(shuffle=True).torch())
    for mine, theirs in zip(other, full[1:], strict=True):
        assert torch.equal(mine[0], theirs[0])


def test_gpuio_alone_does_not_import_torch(rec):
    script = (
        f"import sys, gpuio; it = gpuio.ImageRecordIter({str(rec)!r}, (3, 16, 16), 4); next(it); "
        "assert 'torch' not in sys.modules; gpuio.torch.RecordDataset; "
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_training_loop_may_change_images_in_place(make):
    loader = make(prefetch_buffer=1).torch()
    expected = [np.array(batch.data[0]) for batch in make()]
    for _ in range(3):
        for (images, _), pixels in zip(loader, expected, strict=True):
            npt.assert_array_equal(images.numpy(), pixels)
            images.mul_(-1).sub_(7)


# On a GPU


@pytest.fixture
def gpu(make, rec):
    """Options of an iterator on the GPU; a skip where there is none."""
    open_device("cuda:0")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return {"device": "cuda:0", "decoder": "portable"}


@pytest.mark.gpu
def test_tensors_are_on_the_gpu_over_the_same_memory(make, gpu):
    source = make(**gpu)
    for (images, labels), expected in zip(source.torch(), make(decoder="portable"), strict=True):
        assert images.device == labels.device == torch.device("cuda:0")
        assert images.data_ptr() == source.getdata()[0].data.ptr
        npt.assert_array_equal(images.cpu().numpy(), expected.data[0])
        npt.assert_array_equal(labels.cpu().numpy(), expected.label[0])


@pytest.mark.gpu
def test_memory_waits_for_the_stream_that_took_it(make, gpu):
    loader = make(**gpu, shuffle=True, prefetch_buffer=1).torch()
    other = make(decoder="portable", shuffle=True)
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(5):
            found = []
            for images, _ in loader:
                torch.cuda._sleep(10_000_000)
                found.append(images.sum(dtype=torch.float64))
                del images
            expected = [batch.data[0].sum(dtype=np.float64) for batch in other]
            npt.assert_array_equal(torch.stack(found).cpu().numpy(), expected)


@pytest.mark.gpu
def test_out_may_be_on_the_gpu(make, gpu):
    for options in (gpu, {"decoder": "portable"}):
        out = torch.empty(4, *SHAPE, device="cuda"), torch.empty(4, device="cuda")
        for (images, _), expected in zip(make(**options).torch(out=out), make(), strict=True):
            npt.assert_array_equal(images.cpu().numpy(), expected.data[0])


def test_bfloat16_takes_no_copy_either(rec):
    with ImageRecordIter(rec, (3, 16, 16), 4, dtype="bfloat16", device="cpu") as source:
        images, _ = next(iter(source.torch()))
        stored = source.getdata()[0]
        assert images.dtype == torch.bfloat16
        assert images.data_ptr() == stored.ctypes.data
        np.testing.assert_array_equal(images.float().numpy(), stored.astype(np.float32))


def test_one_tensor_as_out_is_refused(make):
    with pytest.raises(ValueError, match="out must have tensors of the shapes"):
        make().torch(out=torch.empty(4, *SHAPE))
