"""Where the time of a training loop went, by stage, and which stage is the bottleneck."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from gpuio.core.timing import PipelineStats

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.record_iter import RecordIter

_QUIET: Final = 0.05  # part of the time that a training step may wait without a bottleneck
_FEW: Final = 10  # batches: too few to judge by, as some were ready before
_IDLE: Final = 0.75  # part of the CPU threads; with fewer busy, something else delays decoding
_NAMES: Final = {"decode": "decode", "augment": "augmentation"}


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of a report; None where a value is unknown.

    Attributes:
        busy: Seconds at work.
        starved: Seconds without input.
        blocked: Seconds with its output full.
        images: Images that came out of the stage.
        nbytes: Bytes in the images.
    """

    busy: float
    starved: float | None = None
    blocked: float | None = None
    images: int = 0
    nbytes: int | None = None

    @property
    def images_per_second(self) -> float:
        """Images per second of the stage alone, if it never had to wait."""
        return self.images / self.busy if self.busy > 0 else 0.0


class Report:
    """Where the time went, from the making of the report until `end`.

    Args:
        source: The iterator that is measured.
    """

    def __init__(self, source: RecordIter) -> None:
        self._source = source
        self._threads = source.stats()["threads"]
        self._decoder = source.stats()["decoder"]
        self._begin = self._now()
        self._end: Spent | None = None

    def end(self) -> None:
        """Stop measuring."""
        self._end = self._now()

    def _now(self) -> Spent:
        """What was done since some moment that never changes."""
        taken, accounts = self._source.taken, self._source.pipeline.accounts()
        counts = taken.batches, taken.images, taken.nbytes
        return Spent(time.perf_counter(), *counts, self._threads, accounts)

    @property
    def spent(self) -> Spent:
        """The figures of the report."""
        return (self._end or self._now()) - self._begin

    @property
    def limit(self) -> str:
        """The stage that is the bottleneck, as in `sentence`.

        "read", "decode", "augment" or "training"; "start", the first batches of epochs; "bursts",
        where training and decoding wait for each other by turns; "" where no batch was taken.
        """
        return self.spent.limit()

    @property
    def sentence(self) -> str:
        """Which stage is the bottleneck, and the figures that show it."""
        return self.spent.sentence()

    @property
    def brief(self) -> str:
        """The rate, and the part of the time that the training step waited."""
        spent = self.spent
        return f"{spent.rate:.0f} images/s, waited {spent.share(spent.waited)}"

    def to_dict(self) -> dict[str, Any]:
        """The report in seconds and bytes, ready for JSON."""
        spent = self.spent
        stages = {
            name: {**asdict(stage), "images_per_second": stage.images_per_second}
            for name, stage in spent.stages().items()
        }
        return {
            "seconds": spent.seconds,
            "batches": spent.batches,
            "images": spent.images,
            "images_per_second": spent.rate,
            "epochs": spent.images_account.epochs,
            "waited": spent.waited,
            "waited_for_first_batches": spent.first,
            "threads": spent.threads,
            "threads_busy": spent.threads_busy,
            "files": spent.images_account.files,
            "decoder": self._decoder,
            "stages": stages,
            "limit": spent.limit(),
            "sentence": spent.sentence(),
        }

    def __str__(self) -> str:
        return "\n".join([*self.spent.table(), self.sentence])


@dataclass(frozen=True, slots=True)
class Spent:
    """What was done in some time, and how long that took.

    Attributes:
        seconds: The time.
        batches: Batches that the training step took.
        images: Images in the batches, without padding.
        nbytes: Bytes in the batches.
        threads: CPU threads that may decode.
        accounts: Statistics of the fields of the samples: of the images by the name "", which alone
            have the seconds of waiting, and of masks by the name "masks".
    """

    seconds: float
    batches: int
    images: int
    nbytes: int
    threads: int
    accounts: dict[str, PipelineStats]

    def __sub__(self, before: Spent) -> Spent:
        return Spent(
            self.seconds - before.seconds,
            self.batches - before.batches,
            self.images - before.images,
            self.nbytes - before.nbytes,
            self.threads,
            {name: each - before.accounts[name] for name, each in self.accounts.items()},
        )

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / max(self.seconds, 1e-9)

    @property
    def images_account(self) -> PipelineStats:
        """Statistics of the images."""
        return self.accounts[""]

    @property
    def waited(self) -> float:
        """Seconds that the training step waited."""
        return self.images_account.waited

    @property
    def first(self) -> float:
        """Seconds that the training step waited for the first batches of epochs."""
        return self.images_account.first

    @property
    def threads_busy(self) -> float | None:
        """CPU threads that decoded or augmented, on average; None where that is not known."""
        work = sum(account.decoding + account.augmenting for account in self.accounts.values())
        return work / max(self.seconds, 1e-9) if work else None

    def share(self, seconds: float) -> str:
        """`seconds` as a part of the time, in percent."""
        return _percent(seconds / max(self.seconds, 1e-9))

    def stages(self) -> dict[str, Stage]:
        """The stages by name; "masks" is in front of what they did for masks."""
        stages: dict[str, Stage] = {}
        for name, account in self.accounts.items():
            prefix = f"{name} " if name else ""
            for stage, row in _rows(account).items():
                stages[prefix + stage] = row
        trained = max(self.seconds - self.waited, 0.0)
        stages["training"] = Stage(trained, self.waited, None, self.images, self.nbytes)
        return stages

    def limit(self) -> str:
        """See `Report.limit`."""
        images, decode = self.images_account, self.images_account.decode
        steady = self.waited - self.first
        if not self.batches:
            return ""
        if self.waited < _QUIET * self.seconds:
            return "training"
        if self.first > steady:
            return "start"
        if decode.blocked > max(steady, _QUIET * self.seconds):
            return "bursts"
        if decode.starved > decode.busy:
            return "read"
        return "augment" if images.augmenting > images.decoding else "decode"

    def sentence(self) -> str:
        """See `Report.sentence`."""
        limit = self.limit()
        if not limit:
            return "no batch was taken: nothing can be said."
        text = f"{self._reason(limit)} waited {self.share(self.waited)} of the time"
        if limit == "training" and self.threads_busy is not None:
            text += f"; {self._threads()}"
        if self.batches < _FEW:
            text += f"; that is of {self.batches} batches only, look at more"
        return f"{text}."

    def _reason(self, limit: str) -> str:
        """The beginning of the sentence: the bottleneck, its figures, and what waited for it."""
        work = {
            name: each.read.busy if limit == "read" else each.decode.busy
            for name, each in self.accounts.items()
        }
        name = max(work, key=work.__getitem__)
        line, of = self.accounts[name], f" of {name}" if name else ""
        if limit == "training":
            return "the training step is the limit: it"
        if limit == "start":
            count = self.images_account.epochs
            epochs = "an epoch" if count == 1 else f"{count} epochs"
            text = f"the start of {epochs} is the limit: {self.first:.1f} s until the first batch"
        elif limit == "bursts":
            blocked = self.share(self.images_account.decode.blocked)
            text = (
                "no stage is the limit, batches are taken in bursts: finished ones lay there "
                f"{blocked} of the time, a larger prefetch_buffer holds more of them"
            )
        elif limit == "read":
            files = _percent(line.files / max(line.read.busy, 1e-9))
            busy = self.share(line.read.busy)
            text = f"read{of} is the limit: busy {busy} of the time, {files} of that in files"
        elif self.threads_busy is None:
            busy = self.share(line.decode.busy)
            text = f"decode{of} is the limit: busy {busy} of the time"
        else:
            text = f"{_NAMES[limit]}{of} is the limit: {self._threads()}"
            if limit == "augment":
                part = line.augmenting / (line.decoding + line.augmenting)
                text += f", {_percent(part)} of that augmentation"
            if self.threads_busy < _IDLE * self.threads:
                text += ", held up by Python or by other work on the machine"
        return f"{text}; the training step"

    def _threads(self) -> str:
        return f"{round(self.threads_busy or 0, 1):g} of {self.threads} CPU threads busy"

    def table(self) -> list[str]:
        """The lines of a table."""
        rows = [["stage", "busy", "starved", "blocked", "MB/s", "images/s alone"]]
        seconds = max(self.seconds, 1e-9)
        for name, stage in self.stages().items():
            times = (stage.busy, stage.starved, stage.blocked)
            shares = ["-" if t is None else self.share(t) for t in times]
            nbytes = "-" if stage.nbytes is None else f"{stage.nbytes / seconds / 1e6:.1f}"
            rows.append([name, *shares, nbytes, f"{stage.images_per_second:.0f}"])
        first = max(len(row[0]) for row in rows)
        table = [
            f"{row[0]:{first}}{row[1]:>8}{row[2]:>9}{row[3]:>9}{row[4]:>10}{row[5]:>16}"
            for row in rows
        ]
        amount = f"{self.batches} batches, {self.images} images"
        return [f"{self.seconds:.2f} s: {amount}, {self.rate:.0f} images/s", *table]


def _rows(account: PipelineStats) -> dict[str, Stage]:
    """The stages of one pipeline; decoding and augmentation apart if their times are known."""
    read, decode = (
        Stage(each.busy, each.starved, each.blocked, each.images, each.nbytes)
        for each in (account.read, account.decode)
    )
    work = account.decoding + account.augmenting
    if not work:
        return {"read": read, "decode": decode}
    part = account.decoding / work
    return {
        "read": read,
        "decode": replace(decode, busy=decode.busy * part, nbytes=None),
        "augment": Stage(decode.busy * (1 - part), images=decode.images, nbytes=decode.nbytes),
    }


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
