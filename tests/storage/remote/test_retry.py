"""Which errors are worth another try, and what is said in the end."""

from __future__ import annotations

import asyncio

import pytest

from gpuio.errors import RemoteError
from gpuio.storage.remote import retry
from gpuio.storage.remote.retry import ShortReadError, is_retryable, with_retries


class AnswerError(Exception):
    """As gcsfs and requests have them."""

    def __init__(self, code):
        self.code = code


class BotoError(Exception):
    def __init__(self, status):
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ShortReadError(), True),
        (AnswerError(503), True),
        (AnswerError(429), True),
        (AnswerError(403), False),
        (BotoError(500), True),
        (caused(OSError("s3fs says"), BotoError(503)), True),
        (caused(OSError("s3fs says"), BotoError(400)), False),
        (caused(PermissionError(), BotoError(403)), False),
        (FileNotFoundError(), False),
        (KeyError("a bug"), False),
        (RuntimeError("a bug"), False),
    ],
    ids=repr,
)
def test_errors_that_may_pass_are_retryable(error, again):
    assert is_retryable(error) == again


def test_waits_double_from_try_to_try(monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    async def ask():
        raise ConnectionResetError

    monkeypatch.setattr(retry.asyncio, "sleep", sleep)
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: high)

    with pytest.raises(RemoteError, match="5 tries") as caught:
        asyncio.run(with_retries(ask, "s3://a/b: bytes 1 to 2", tries=5))
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert waits == [retry.FIRST_DELAY * 2**n for n in range(4)]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (FileNotFoundError("?"), FileNotFoundError, "s3://a/b: no such file"),
        (PermissionError("no"), RemoteError, "access is denied .*storage_options="),
        (ImportError("no gcsfs"), RemoteError, r"install gpuio\[remote\]"),
        (ValueError("odd"), RemoteError, "ValueError: odd"),
    ],
)
def test_errors_that_stay_are_raised_at_once(error, kind, text):
    asked = []

    async def ask():
        asked.append(1)
        raise error

    with pytest.raises(kind, match=text):
        asyncio.run(with_retries(ask, "s3://a/b"))
    assert len(asked) == 1
