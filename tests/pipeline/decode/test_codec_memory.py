"""Memory that nvImageCodec is given: kept, used again only after its stream, freed at the end."""

from __future__ import annotations

import ctypes
import threading
from ctypes import CFUNCTYPE, c_int, c_uint, c_uint64, c_void_p

import numpy as np
import pytest
import stub_cuda

from gpuio.pipeline.decode import codec_memory
from gpuio.pipeline.decode.codec_memory import CodecMemory

CONTEXT, STREAM = 0xC0, 0x57
OUT_OF_MEMORY = 2


class Driver:
    """In the driver's place: functions that allocate host memory and note what they are told."""

    def __init__(self):
        self.calls, self.alive, self.limit = [], {}, 1 << 40
        self._lock = threading.Lock()
        made = {
            "cuMemAlloc_v2": CFUNCTYPE(c_int, c_void_p, c_uint64)(self._allocate),
            "cuMemFree_v2": CFUNCTYPE(c_int, c_uint64)(self._free),
            "cuMemHostAlloc": CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint)(self._allocate),
            "cuMemFreeHost": CFUNCTYPE(c_int, c_uint64)(self._free),
            "cuStreamSynchronize": CFUNCTYPE(c_int, c_uint64)(self._note("wait")),
            "cuCtxPushCurrent_v2": CFUNCTYPE(c_int, c_uint64)(self._note("push")),
            "cuThreadExchangeStreamCaptureMode": CFUNCTYPE(c_int, c_void_p)(self._exchange),
            "cuCtxPopCurrent_v2": CFUNCTYPE(c_int, c_void_p)(lambda _: self._note("pop")(0)),
        }
        self._made = made
        self.functions = {
            name: ctypes.cast(function, c_void_p).value for name, function in made.items()
        }

    def _exchange(self, mode):
        word = c_int.from_address(mode)
        self.calls.append(("mode", word.value))
        word.value = 0
        return 0

    def _note(self, name):
        def note(value):
            with self._lock:
                self.calls.append((name, value))
            return 0

        return note

    def _allocate(self, where, nbytes, flags=None):
        with self._lock:
            self.calls.append(("allocate", nbytes, flags))
            if nbytes + sum(array.nbytes for array in self.alive.values()) > self.limit:
                return OUT_OF_MEMORY
            array = np.zeros(nbytes, np.uint8)
            self.alive[array.ctypes.data] = array
        c_uint64.from_address(where).value = array.ctypes.data
        return 0

    def _free(self, address):
        with self._lock:
            self.calls.append(("free", address))
            del self.alive[address]
        return 0


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def memory(driver):
    memory = CodecMemory(driver.functions, CONTEXT)
    yield memory
    memory.close()
    assert not driver.alive


def functions(allocator, stream=STREAM):
    kinds = CFUNCTYPE(c_int, c_uint64, c_uint64, c_uint64, c_uint64)
    allocate, free = kinds(allocator.allocate), kinds(allocator.free)

    def take(nbytes):
        where = c_uint64()
        status = allocate(allocator.context, ctypes.addressof(where), nbytes, stream)
        return where.value if status == 0 else -status

    return take, lambda address: free(allocator.context, address, 0, stream)


@pytest.mark.parametrize("kind", [0, 1])
def test_memory_that_is_given_back_is_used_again_after_the_streams_work(driver, memory, kind):
    take, give = functions(memory.allocators[kind])
    first, second = take(1000), take(500)
    assert first != second
    assert driver.alive.keys() == {first, second}
    assert give(first) == 0
    assert ("wait", STREAM) in driver.calls
    assert len(driver.alive) == 2
    assert take(800) == first
    assert memory.kept()[kind] == 1500


def test_the_smallest_memory_that_fits_is_taken(driver, memory):
    take, give = functions(memory.allocators[0])
    large, small = take(9000), take(1000)
    give(large)
    give(small)
    assert (take(900), take(900)) == (small, large)
    assert len(driver.alive) == 2


def on_the_stub():
    from gpuio.devices.cuda import CudaDriver

    driver = CudaDriver(1)
    stream = driver.new_stream()
    memory = codec_memory.open_codec_memory(1)
    counts = []
    for allocator in memory.allocators:
        take, give = functions(allocator, driver.handle(stream))
        address = take(100)
        counts += [address > 0, take(50) > 0, give(address), take(90) == address]
    counts += memory.kept()
    memory.close()
    return [*counts, *memory.kept()]


def test_the_drivers_own_functions_are_called_as_they_are_declared():
    found = stub_cuda.run(on_the_stub)
    assert found == [True, True, 0, True] * 2 + [150, 150, 0, 0]


def test_calls_are_made_in_the_devices_context_whatever_other_threads_capture(driver, memory):
    take, give = functions(memory.allocators[0])
    give(take(10))
    enter, leave = [("push", CONTEXT), ("mode", 2)], [("mode", 0), ("pop", 0)]
    wanted = [*enter, ("allocate", 10, None), *leave, *enter, ("wait", STREAM), *leave]
    assert driver.calls == wanted


def test_pinned_memory_is_for_all_devices(driver, memory):
    functions(memory.allocators[1])[0](64)
    assert ("allocate", 64, 1) in driver.calls


def test_where_there_is_no_more_memory_what_is_kept_is_freed(driver, memory):
    take, give = functions(memory.allocators[0])
    driver.limit = 3000
    give(take(2000))
    assert take(2500) > 0
    assert memory.kept()[0] == 2500
    assert take(1000) == -OUT_OF_MEMORY
    assert memory.kept()[0] == 2500


def test_memory_beyond_the_table_is_freed_at_once(driver, memory):
    take, give = functions(memory.allocators[0])
    taken = [take(8) for _ in range(codec_memory.BLOCKS + 3)]
    assert len(set(taken)) == len(taken)
    for address in taken:
        assert give(address) == 0
    assert len(driver.alive) == codec_memory.BLOCKS


def test_nothing_given_back_is_nothing(driver, memory):
    _, give = functions(memory.allocators[0])
    assert give(0) == 0
    assert not driver.calls


def test_threads_never_get_the_same_memory(driver, memory):
    take, give = functions(memory.allocators[0])
    wrong = []

    def work(number):
        for _ in range(200):
            address = take(16)
            word = c_uint64.from_address(address)
            word.value = number
            if word.value != number:
                wrong.append(number)
            give(address)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(driver.alive) <= 4


def test_allocations_are_padded_as_dalis(memory):
    device, pinned = memory.allocators
    assert (device.padding, pinned.padding) == (16 << 20, 8 << 20)
    assert (device.struct_type, pinned.struct_type) == (3, 4)
