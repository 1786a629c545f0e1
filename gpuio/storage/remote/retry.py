"""Retries: which errors of a store are temporary, how long to wait, what the last error says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from gpuio.errors import RemoteError

T = TypeVar("T")

TRIES: Final = 8
FIRST_DELAY: Final = 0.2  # seconds; doubled after each try, so that all of them take half a minute
OPENING_TRIES: Final = 4  # a wrong endpoint should not take that long to be found out
_PERMANENT: Final = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    ImportError,
)
# Of 4xx, these say "not now": timeout, too early, too many requests.
_RETRYABLE_STATUS: Final = (408, 425, 429)
# S3 reports a clock that is off, or a key that is new, as 403 and 404; so those stay as they are.


class ChangedError(ValueError):
    """The file is not the one that was opened, or the server cannot serve parts of it."""


class ShortReadError(ConnectionError):
    """A body ended before all of it was there."""


async def with_retries(
    ask: Callable[[], Awaitable[T]], what: str, *, tries: int | None = None
) -> T:
    """The answer of `ask()`, which is called again after errors that are temporary.

    Args:
        ask: Sends the request.
        what: The file and range, for messages.
        tries: Calls at most; `TRIES` if None.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: Another error that is not temporary, or all tries failed.
    """
    begin, tries = time.monotonic(), tries or TRIES
    for number in range(1, tries + 1):
        try:
            return await ask()
        except Exception as error:
            if not is_retryable(error):
                raise _final_error(error, what) from error
            if number == tries:
                spent = time.monotonic() - begin
                reason = f"{tries} tries in {spent:.0f} s failed, the last with {summarize(error)}"
                hint = "see whether the store can be reached and takes this many requests"
                raise RemoteError(f"{what}: {reason}; {hint}, then go on from a saved state") from (
                    error
                )
        await asyncio.sleep(FIRST_DELAY * 2 ** (number - 1) * random.uniform(0.5, 1))
    raise AssertionError


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _RETRYABLE_STATUS
    if isinstance(error, _PERMANENT):
        return False
    # Resets, timeouts, and the errors that clients raise for them; others are bugs or options.
    return any(
        isinstance(cause, (OSError, EOFError, asyncio.IncompleteReadError))
        or type(cause).__module__.partition(".")[0] in ("aiohttp", "urllib3", "requests")
        or type(cause).__name__ in ("HTTPClientError", "ResponseParserError")
        for cause in _causes(error)
    )


def summarize(error: BaseException) -> str:
    """An error in a few words."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:300]}"


def _final_error(error: Exception, what: str) -> Exception:
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(f"{what}: no such file")
    if isinstance(error, ChangedError):
        return RemoteError(f"{what}: {error}")
    if isinstance(error, PermissionError) or status in (401, 403):
        hint = "check the credentials and that they may read it (storage_options=)"
        return RemoteError(f"{what}: access is denied ({summarize(error)}); {hint}")
    if isinstance(error, ImportError):
        return RemoteError(f"{what}: {error}; install gpuio[remote], or what this store needs")
    return RemoteError(f"{what}: {summarize(error)}; check the URL and storage_options=")


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, as clients keep it; None if there is none."""
    for cause in _causes(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):  # botocore
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        elif hasattr(cause, "request_info"):  # aiohttp; its errors of parsing have a `code`, too
            status = getattr(cause, "status", None)
        elif type(cause).__module__.startswith("aiohttp"):
            continue
        else:  # gcsfs; requests
            status = getattr(cause, "code", None) or getattr(answer, "status_code", None)
        if isinstance(status, int) and 300 <= status < 600:
            return status
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
