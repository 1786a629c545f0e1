"""What gpu.py prints: a table of each part, and the targets."""

from __future__ import annotations

from statistics import median

from gpu_child import Row
from gpu_compare import last_line


def part(name: str, found: Row) -> None:
    """A table of one part."""
    print(f"\n{name} ({found['took']} s)", flush=True)
    if "median" in found:
        print(f"  {'images/s':34} {'median':>9} {'min':>9} {'max':>9} {'cores':>6} {'GPU MB':>8}")
        for side, rates in found["images_per_second"].items():
            used = found["gpu_megabytes"].get(side)
            print(
                f"  {side:34} {median(rates):9.0f} {min(rates):9.0f} {max(rates):9.0f} "
                f"{found['cores'][side]:6.1f} {'-' if used is None else round(used):>8}"
            )
        for side, reason in found["missing"].items():
            print(f"  {side}: {reason}")
        if found["disagree"]:
            print(f"  other images than gpuio's: {', '.join(found['disagree'])}")
    for row in found.get("rows", []):
        print("  " + ", ".join(f"{k} {v}" for k, v in row.items() if v != ""))
    if found.get("error"):
        print(f"  ended early: {last_line(found['error'])}")


def conclude(report: Row) -> None:
    """The figures beside what they should be."""
    print("\ntargets")
    for row in report["targets"]:
        print(f"  {row['name']:52} {value(row):>13}  {bound(row):10} {verdict(row)}")
    if report["left_out"]:
        print(f"no time was left for: {', '.join(report['left_out'])}")


def value(row: Row) -> str:
    """The figure of a target."""
    return "not measured" if row["value"] is None else f"{row['value']:.3f}"


def bound(row: Row) -> str:
    """What it should be."""
    signs = {"least": "\N{GREATER-THAN OR EQUAL TO}", "most": "\N{LESS-THAN OR EQUAL TO}"}
    return next((f"{sign} {row[word]}" for word, sign in signs.items() if word in row), "")


def verdict(row: Row) -> str:
    """Whether it is."""
    return {True: "met", False: "MISSED"}.get(row["met"], "")
