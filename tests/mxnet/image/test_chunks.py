from __future__ import annotations

import threading

import pytest

from gpuio.errors import PipelineClosedError
from gpuio.mxnet.image.chunks import LockstepGate


def test_one_thread_works_only_while_the_other_waits_for_it():
    turns, log = LockstepGate(), []

    def work():
        for number in range(4):
            with turns.take():
                log.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    turns.give(2)
    assert log == [0, 1]
    turns.give(1)
    assert log == [0, 1, 2]
    turns.give(1)
    thread.join()
    assert log == [0, 1, 2, 3]


def test_a_turn_that_fails_is_over_too():
    turns = LockstepGate()

    def work():
        with pytest.raises(ZeroDivisionError), turns.take():
            raise ZeroDivisionError

    thread = threading.Thread(target=work)
    thread.start()
    turns.give(1)
    thread.join()


def test_closing_ends_both_waits():
    turns, ended = LockstepGate(), []

    def work():
        with pytest.raises(PipelineClosedError, match="closed"), turns.take():
            pass
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    turns.close()
    thread.join()
    turns.give(5)  # does not wait
    assert ended
