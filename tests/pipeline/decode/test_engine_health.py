"""Engines are given up after two failures in a row, and for no less."""

from __future__ import annotations

from gpuio.pipeline.decode.engine_health import EngineHealth

FINE, FAILED = (True, False), (False, True)
DAMAGED = False, False


def noted(*batches, words=()):
    health = EngineHealth()
    ends = [
        health.note(decoded=decoded, rescued=rescued, words=words) for decoded, rescued in batches
    ]
    return health, ends


def test_two_failures_in_a_row_end_it_once():
    health, ends = noted(FINE, FAILED, FAILED, FAILED)
    assert ends == [False, False, True, False]
    assert health.failures == 3
    assert health.reason == "they failed with 2 batches in a row"


def test_failures_with_good_batches_between_do_not():
    health, ends = noted(FAILED, FINE, FAILED, FINE)
    assert not any(ends)
    assert (health.failures, health.reason) == (2, "")


def test_batches_that_nobody_decodes_do_not_count():
    health, ends = noted(FAILED, DAMAGED, FINE, DAMAGED)
    assert not any(ends)
    assert health.failures == 1


def test_the_reason_has_the_librarys_words():
    health, _ = noted(FAILED, FAILED, words=["status 8", "status 4"])
    assert health.reason.endswith(": status 8; status 4")
