"""What the figures of a GPU should be, and whether they are."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from gpu_child import Row
from gpu_compare import BARE, ON_CPU, OURS, PINNED, PLAIN, SMOOTH, TORCHVISION

DATA = ("large", "small")


@dataclass(frozen=True)
class Ratio:
    """gpuio's rate over another side's, round by round.

    Attributes:
        other: The other side.
        least: What the median should be; None where the ratio is only shown.
    """

    other: str
    least: float | None = None


RATIOS = (
    Ratio(BARE, 0.95),
    Ratio(SMOOTH, 1.3),
    Ratio(PINNED, 0.95),
    Ratio(PLAIN),
    Ratio(TORCHVISION),
    Ratio(ON_CPU),
)
KERNELS = {"large": "bilinear", "small": "crop"}
"""The kind of kernels that the comparison of these data runs."""

OF_A_BATCH, OF_COPY, LONGER = 0.05, 0.5, 0.03
FIRST = {"warm": 3.0, "cold": 25.0}  # seconds


def best(rows: list[Row], **where: object) -> Row:
    """The fastest of the rows that have these values; empty if there is none."""
    fits = [row for row in rows if where.items() <= row.items()]
    return max(fits, key=lambda row: row["images_per_second"], default={})


def ratio(part: Row, wanted: Ratio) -> float | None:
    """The median over the rounds, None where one of the sides is not there."""
    rates = part.get("images_per_second", {})
    if OURS not in rates or wanted.other not in rates:
        return None
    return median(a / b for a, b in zip(rates[OURS], rates[wanted.other], strict=False))


def target(
    name: str, value: float | None, *, least: float | None = None, most: float | None = None
) -> Row:
    """A row of the table: `value` None was not measured, and `met` None has no bound."""
    row: Row = {"name": name, "value": None if value is None else round(value, 4)}
    row |= {k: v for k, v in (("least", least), ("most", most)) if v is not None}
    met = None
    if value is not None and least is not None:
        met = value >= least
    if value is not None and most is not None:
        met = value <= most
    return row | {"met": met}


def targets(parts: dict[str, Row]) -> list[Row]:
    """All of them, also those that were not measured."""
    rows = []
    for data in DATA:
        part, kernels = parts.get(data, {}), _kernels(parts, data)
        rows += [
            target(f"{data}: {OURS} / {r.other}", ratio(part, r), least=r.least) for r in RATIOS
        ]
        speed, share = part.get("median", {}).get(OURS), None
        if kernels and speed:
            share = kernels["kernel_us"] / 1e6 * speed / part["batch_size"]
        rows.append(target(f"{data}: kernels, of a batch's time", share, most=OF_A_BATCH))
        used = kernels.get("of_copy_bandwidth")
        rows.append(target(f"{data}: kernels, of the copy bandwidth", used, least=OF_COPY))
    step = only(parts, "overlap").get("longer")
    rows.append(target("training step, longer by", step, most=LONGER))
    for kind, most in FIRST.items():
        first = only(parts, f"first batch, {kind}").get("first_batch")
        rows.append(target(f"first batch, {kind} cache, seconds", first, most=most))
    return rows


def only(parts: dict[str, Row], name: str) -> Row:
    """The one row of a measurement, empty where there is none."""
    found = parts.get(name, {}).get("rows", [])
    return found[0] if found else {}


def _kernels(parts: dict[str, Row], data: str) -> Row:
    rows = parts.get(f"kernels, {data}", {}).get("rows", [])
    return next((row for row in rows if row["kind"] == KERNELS[data]), {})
