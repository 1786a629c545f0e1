from __future__ import annotations

import threading

import pytest

from gpuio.errors import PipelineClosedError
from gpuio.mxnet.image.chunks import LockstepGate


def test_one_thread_works_only_while_the_other_waits_for_it():
    gate, log = LockstepGate(), []

    def work():
        for number in range(4):
            with gate.turn():
                log.append(number)

    thread = threading.Thread(target=work)
    thread.start()
    gate.let_pass(2)
    assert log == [0, 1]
    gate.let_pass(1)
    assert log == [0, 1, 2]
    gate.let_pass(1)
    thread.join()
    assert log == [0, 1, 2, 3]


def test_a_turn_that_fails_is_over_too():
    gate = LockstepGate()

    def work():
        with pytest.raises(ZeroDivisionError), gate.turn():
            raise ZeroDivisionError

    thread = threading.Thread(target=work)
    thread.start()
    gate.let_pass(1)
    thread.join()


def test_closing_ends_both_waits():
    gate, ended = LockstepGate(), []

    def work():
        with pytest.raises(PipelineClosedError, match="closed"), gate.turn():
            pass
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    gate.close()
    thread.join()
    gate.let_pass(5)  # does not wait
    assert ended
