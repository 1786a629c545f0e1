"""The whole loader on a GPU: what it hands out is what the CPU hands out, and it is in order.

Each test runs on the simulated device, and on a real one where there is one.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
from harness import open_device, our_threads

import gpuio
from gpuio.devices import make_device
from gpuio.devices.pool import Lease
from gpuio.devices.simulated import OrderError
from gpuio.errors import GpuioError
from gpuio.testing import draw, encode, write_rec

pytest.importorskip("numba.cuda")

SHAPE = (3, 12, 14)
SIZES = [(20, 24), (31, 17), (13, 40), (16, 16), (25, 25)]


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    """PNGs, which every decoder takes to the same pixels."""
    path = tmp_path_factory.mktemp("device") / "some.rec"
    images = [encode(draw(*size, seed=k), "PNG") for k, size in enumerate(SIZES)]
    write_rec(path, images, labels=range(len(SIZES)))
    return path


@pytest.fixture(scope="module", params=["simulated", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def device(request):
    return open_device(request.param).name


def batches(rec, device, shape=SHAPE, batch_size=2, **options):
    """Everything of an epoch: data, labels, pads, draws."""
    with gpuio.ImageRecordIter(rec, shape, batch_size, device=device, **options) as loader:
        return [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.pad, b.augmentation) for b in loader]


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    for (data, labels, pad, drawn), (data_, labels_, pad_, drawn_) in zip(
        found, wanted, strict=True
    ):
        assert data.dtype == data_.dtype
        np.testing.assert_array_equal(data.view(np.uint8), data_.view(np.uint8))
        np.testing.assert_array_equal(labels, labels_)
        assert pad == pad_
        assert drawn.keys() == drawn_.keys()


JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True, "rand_crop": True, "rand_mirror": True, "resize": 18, "seed": 3},
        {"max_rotate_angle": 30, "max_shear_ratio": 0.2, "rand_crop": True, "pad": 2},
        {
            "random_resized_crop": True,
            "min_random_area": 0.2,
            "max_aspect_ratio": 0.3,
            "inter_method": 10,
        },
        {**JITTER, "rand_crop": True, "mean_r": 100, "std_r": 50},
        {"random_h": 40, "random_s": 40, "random_l": 40, "pca_noise": 0.2, "rand_gray": 0.5},
        {**JITTER, "resize": 17, "max_random_scale": 1.3, "min_random_scale": 0.8, "pad": 3},
        {"dtype": "float16", "layout": "NHWC", "scale": 0.01},
        {"dtype": "uint8", "max_random_contrast": 0.1},
        {"dtype": "int8", "mean_g": 120, "rand_mirror": True},
        {"max_crop_size": 13, "min_crop_size": 9, "inter_method": 3},
    ],
    ids=lambda options: "-".join(options)[:40] or "plain",
)
def test_batches_are_those_of_the_cpu(rec, device, options):
    assert_equal(batches(rec, device, **options), batches(rec, "cpu", **options))


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_rgba_too(tmp_path, device, channels):
    path = tmp_path / "some.rec"
    mode = {1: "L", 4: "RGBA"}[channels]
    pictures = [draw(18, 15, channels, seed=k) for k in range(3)]
    images = [encode(p[..., 0] if channels == 1 else p, "PNG", mode) for p in pictures]
    write_rec(path, images)
    options = {"shape": (channels, 9, 9), "rotate": 20, "resize": 14}
    assert_equal(batches(path, device, **options), batches(path, "cpu", **options))


def test_a_mean_image_is_used_on_the_device(rec, device, tmp_path):
    options = {"mean_img": str(tmp_path / "mean.bin"), "rand_mirror": True}
    assert_equal(batches(rec, "cpu", **options), batches(rec, device, **options))


@pytest.mark.parametrize("decoder", ["auto", "portable", "dali"])
def test_decoders_give_what_they_give_on_the_cpu(tmp_path, device, decoder):
    if decoder == "dali":
        pytest.importorskip("nvidia.dali")
    path = tmp_path / "some.rec"
    kinds = ["PNG", "JPEG", "WEBP", "BMP", "JPEG", "TIFF"]
    images = [
        encode(draw(20 + k, 22, seed=k), kind, **({"progressive": True} if k == 4 else {}))
        for k, kind in enumerate(kinds)
    ]
    write_rec(path, images)
    options = {"decoder": decoder, "dtype": "uint8"}
    found, wanted = (batches(path, where, **options) for where in (device, "cpu"))
    for (data, *_), (data_, *_) in zip(found, wanted, strict=True):
        difference = np.abs(data.astype(int) - data_)
        assert difference.max() <= (0 if device == "simulated" else 8)


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_damaged_images_are_settled(tmp_path, device, policy):
    path = tmp_path / "some.rec"
    good = [encode(draw(20, 20, seed=k), "JPEG") for k in range(6)]
    bad = [b"", good[1][: len(good[1]) // 2], b"\xff\xd8\xff" + bytes(range(200))]
    write_rec(path, [good[0], bad[0], good[2], bad[1], bad[2], good[5]])
    options = {"batch_size": 3, "on_error": policy, "decoder": "auto"}
    found, wanted = (batches(path, where, **options) for where in (device, "cpu"))
    assert len(found) == len(wanted)
    for (data, labels, pad, _), (data_, labels_, pad_, _) in zip(found, wanted, strict=True):
        assert np.abs(data - data_).max() <= (0 if device == "simulated" else 8)
        np.testing.assert_array_equal(labels, labels_)
        assert pad == pad_


def test_a_damaged_image_is_an_error_with_its_place(tmp_path, device):
    path = tmp_path / "some.rec"
    write_rec(path, [encode(draw(20, 20), "PNG"), b"\xff\xd8\xff" + bytes(300)])
    with gpuio.ImageRecordIter(path, SHAPE, 2, device=device) as loader:
        with pytest.raises(GpuioError, match=r"some\.rec"):
            loader.next()
        assert our_threads() == [] or all("decode" in name for name in our_threads())


def test_batches_that_are_kept_stay_as_they_are(rec, device):
    with gpuio.ImageRecordIter(rec, SHAPE, 1, device=device) as loader:
        kept = [batch.data[0] for _ in range(2) for batch in loader]
        first = [array.asnumpy() for array in kept]
        for _ in loader:
            pass
        for array, before in zip(kept, first, strict=True):
            np.testing.assert_array_equal(array.asnumpy(), before)


def test_a_view_keeps_the_memory(rec, device):
    with gpuio.ImageRecordIter(rec, SHAPE, 1, device=device) as loader:
        view = loader.next().data[0][0, 1:]
        before = view.asnumpy()
        for _ in range(3):
            for _ in loader:
                gc.collect()
        np.testing.assert_array_equal(view.asnumpy(), before)


def test_state_and_replay(rec, device):
    options = {"shuffle": True, "rand_crop": True, "device": device}
    with gpuio.ImageRecordIter(rec, SHAPE, 2, **options) as loader:
        first = loader.next()
        state = loader.state_dict()
        second = loader.next().data[0].asnumpy()
        again = loader.replay(first.augmentation).data[0].asnumpy()
        np.testing.assert_array_equal(again, first.data[0].asnumpy())
    with gpuio.ImageRecordIter(rec, SHAPE, 2, **options) as loader:
        loader.load_state_dict(state)
        np.testing.assert_array_equal(loader.next().data[0].asnumpy(), second)


@pytest.fixture
def simulated():
    return make_device("simulated", 1)


def read_by(driver, array, stream):
    """Let a stream read a handed-out array, as a consumer's kernel would."""
    with driver.memory.step(stream):
        driver.memory.use(array.ctypes.data, array.nbytes, written=False)


def test_memory_is_not_written_before_the_consumers_stream_has_read_it(rec):
    with gpuio.ImageRecordIter(rec, SHAPE, 1, device="simulated", prefetch_buffer=1) as loader:
        driver = loader._device._driver
        slow = driver.new_stream()
        with driver.use_stream(slow):
            for _ in range(3):
                for batch in loader:
                    read_by(driver, batch.data[0], slow)  # a kernel that is queued, and takes long


def test_without_the_wait_for_the_consumer_that_fails(rec, monkeypatch):
    monkeypatch.setattr(Lease, "readers", property(lambda self: [], lambda self, value: None))

    def read_all(loader, driver, stream):
        for _ in range(6):
            for batch in loader:
                read_by(driver, batch.data[0], stream)
                del batch

    with gpuio.ImageRecordIter(rec, SHAPE, 1, device="simulated", prefetch_buffer=1) as loader:
        driver = loader._device._driver
        slow = driver.new_stream()
        with driver.use_stream(slow), pytest.raises(OrderError, match="has yet to read"):
            read_all(loader, driver, slow)


def test_threads_end_with_the_loader(rec, device):
    loader = gpuio.ImageRecordIter(rec, SHAPE, 2, device=device)
    loader.next()
    loader.close()
    assert our_threads() == []


def test_uploads_are_copies(simulated):
    host = np.arange(10, dtype=np.int32)
    array = simulated.upload(host)
    host[:] = 0
    assert array.tolist() == list(range(10))


def test_bfloat16_is_the_upper_half_of_float32(rec, device):
    pytest.importorskip("ml_dtypes")
    options = {"mean_r": 100.3, "std_g": 57.1, "rand_mirror": True}
    halves = batches(rec, device, dtype="bfloat16", **options)
    wholes = batches(rec, "cpu", **options)
    for (half, *_), (whole, *_) in zip(halves, wholes, strict=True):
        assert half.dtype == "bfloat16"
        np.testing.assert_array_equal(half, whole.astype(half.dtype))


def test_a_device_can_be_asked_for_the_same_pixels_each_time(rec, device):
    wanted = batches(rec, device, deterministic=True, dtype="uint8")
    assert_equal(batches(rec, device, deterministic=True, dtype="uint8"), wanted)


@pytest.mark.gpu
def test_gpu_memory_is_not_written_before_a_slow_consumer_has_read_it(rec):
    """The consumer's stream sleeps before it copies each batch; it holds none of them."""
    open_device("cuda:0")
    import cupy
    from numba import cuda

    @cuda.jit
    def sleep():
        for _ in range(50):
            cuda.nanosleep(1_000_000)

    options = {"rand_crop": True, "rand_mirror": True, "decoder": "portable"}
    wanted = [array for array, *_ in batches(rec, "cpu", batch_size=1, **options)]
    stream, copies = cupy.cuda.Stream(non_blocking=True), []
    with gpuio.ImageRecordIter(rec, SHAPE, 1, device="cuda:0", **options) as loader, stream:
        for _ in range(3):
            loader.set_epoch(0)
            for batch in loader:
                sleep[1, 1, cuda.external_stream(stream.ptr)]()
                copies.append(cupy.array(batch.data[0], copy=True))
                del batch
        stream.synchronize()
    for found, expected in zip(copies, wanted * 3, strict=True):
        np.testing.assert_array_equal(found.get(), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("framework", ["cupy", "torch", "jax"])
def test_gpu_arrays_go_to_frameworks_without_a_copy(rec, framework):
    open_device("cuda:0")
    if framework != "cupy":
        module = pytest.importorskip(framework)
        if framework == "torch" and not module.cuda.is_available():
            pytest.skip("this torch has no CUDA")
        if framework == "jax" and module.default_backend() != "gpu":
            pytest.skip("this JAX has no CUDA")
    wanted = [array for array, *_ in batches(rec, "cpu", decoder="portable")]
    with gpuio.ImageRecordIter(rec, SHAPE, 2, device="cuda:0", decoder="portable") as loader:
        for (images, labels), expected in zip(getattr(loader, framework)(), wanted, strict=True):
            source = loader.getdata()[0].data.ptr
            place = {
                "cupy": lambda a: a.data.ptr,
                "torch": lambda a: a.data_ptr(),
                "jax": lambda a: a.unsafe_buffer_pointer(),
            }[framework](images)
            assert place == source
            host = images.cpu().numpy() if framework == "torch" else np.asarray(_host(images))
            np.testing.assert_array_equal(host, expected)
            assert len(labels) == len(images)


def _host(array):
    return array.get() if hasattr(array, "get") else array
