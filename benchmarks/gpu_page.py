"""The report of a GPU as one page, drawn from its JSON.

python benchmarks/gpu_page.py gpu.json             # draws gpu.png
python benchmarks/gpu_page.py gpu.json page.png
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gpu_show
from gpu_child import Row
from gpu_compare import BARE, OURS, PINNED
from gpu_targets import only

GOOD, BAD, DIM, PLAIN, MINE = "#2a7f3f", "#b3261e", "#8a8a8a", "#9db4c8", "#1f5f99"
COLORS = {OURS: MINE, PINNED: "#5a93c4", BARE: "#e0a030"}
LINES = 12  # of failures that are shown
VERSIONS = ("python", "numpy", "numba", "numba-cuda", "cuda-core", "cupy-cuda13x", "cupy-cuda12x")
VERSIONS += ("nvidia-nvimgcodec-cu13", "nvidia-nvimgcodec-cu12", "nvidia-nvjpeg", "torch", "jax")
VERSIONS += ("nvidia-dali-cuda130", "torchvision")


def save(report: Row, path: Path) -> None:
    """Write a report so that whoever reads it finds a whole one at any time."""
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    beside.replace(path)


def draw(report: Row, path: Path) -> str:
    """Draw the page; its path, or why there is none.

    Args:
        report: Of gpu_report.py; of gpu.py alone as its `benchmark`.
        path: Of the PNG.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return "no page: matplotlib is not installed"
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    parts = report.get("benchmark", {}).get("parts", {})
    figure = plt.figure(figsize=(13, 19))
    rows = (3.4, 2.6, 2.2, 2.2, 2.2, 1.6)
    grid = figure.add_gridspec(len(rows), 2, height_ratios=rows, hspace=0.34, wspace=0.38)
    grid.update(left=0.13, right=0.97, top=0.915, bottom=0.02)
    _title(figure, report)
    panels: list[tuple[Any, Callable[[Any, Row], None], Row, str]] = [
        (grid[0, :], _targets, report.get("benchmark", {}), _met(report)),
        (grid[1, 0], _bars, parts.get("large", {}), "large images: images/s"),
        (grid[1, 1], _bars, parts.get("small", {}), "256-pixel images: images/s"),
        (grid[2, 0], _shares, _sweep(parts, ""), "large: images/s by share of the engines"),
        (grid[2, 1], _shares, _sweep(parts, ", small"), "256-pixel: images/s by share"),
        (grid[3:5, 0], _paths, parts.get("paths", {}), "bare decoding: images/s by path"),
        (grid[3, 1], _kernels, parts, "kernels of a batch, of the copy bandwidth"),
        (grid[4, 1], _tests, report, "tests"),
        (grid[5, :], _failures, report, "what is missing or went wrong"),
    ]
    for place, panel, content, title in panels:
        axes = figure.add_subplot(place)
        axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
        panel(axes, content)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return str(path)


def _title(figure: Any, report: Row) -> None:
    machine = report.get("machine") or report.get("benchmark", {}).get("machine", {})
    name = machine.get("gpu_name", report.get("device", "no GPU"))
    state, color = {True: ("passed", GOOD), False: ("NOT PASSED", BAD)}.get(
        report.get("passed"), ("figures alone, no tests", DIM)
    )
    figure.text(0.04, 0.972, f"gpuio on {name}", fontsize=19, fontweight="bold")
    figure.text(0.97, 0.972, state, fontsize=19, fontweight="bold", color=color, ha="right")
    benchmark = report.get("benchmark", {})
    engines = only(benchmark.get("parts", {}), "hardware").get("engines", "?")
    mixture = benchmark.get("subsampling", {}).get("large", {})
    facts = [
        report.get("date", ""),
        f"driver {machine.get('gpu_driver_version', '?')}",
        f"{engines} JPEG engines",
        f"{machine.get('cores', '?')} cores of {machine.get('cpu', '?')}",
        f"images {benchmark.get('images', '?')}",
        ", ".join(f"{100 * part:.0f} % {kind}" for kind, part in mixture.items()),
    ]
    versions = ", ".join(f"{k} {machine[k]}" for k in VERSIONS if k in machine)
    absent = ", ".join(report.get("not_compared", []))
    lines = ["; ".join(filter(None, facts)), *textwrap.wrap(versions, 150)]
    lines += [f"not compared with: {absent}"] if absent else []
    figure.text(0.04, 0.963, "\n".join(lines), fontsize=8.5, va="top", color="#333333")


def _met(report: Row) -> str:
    bounded = [t for t in report.get("benchmark", {}).get("targets", []) if gpu_show.bound(t)]
    counts = {met: sum(t["met"] is met for t in bounded) for met in (True, False, None)}
    return f"targets: {counts[True]} met, {counts[False]} missed, {counts[None]} not measured"


def _table(axes: Any, rows: list[list[str]], widths: list[float], head: list[str]) -> Any:
    axes.axis("off")
    if not rows:
        return _nothing(axes)
    height = min(0.075, 1 / (len(rows) + 1)) * (len(rows) + 1)
    table = axes.table(
        cellText=rows,
        colLabels=head,
        colWidths=widths,
        cellLoc="left",
        colLoc="left",
        bbox=(0, 1 - height, 1, height),
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    for (row, _), cell in table.get_celld().items():
        cell.PAD = 0.02
        cell.set_edgecolor("#dddddd")
        if row == 0:
            cell.set_text_props(color=DIM)
    return table


def _nothing(axes: Any) -> None:
    axes.axis("off")
    axes.text(0.0, 0.9, "not measured", color=DIM, fontsize=10)


def _targets(axes: Any, benchmark: Row) -> None:
    targets = benchmark.get("targets", [])
    rows = [[t["name"], gpu_show.value(t), gpu_show.bound(t), gpu_show.verdict(t)] for t in targets]
    table = _table(axes, rows, [0.5, 0.15, 0.15, 0.2], ["", "found", "should be", ""])
    for number, target in enumerate(targets, 1):
        color = {True: GOOD, False: BAD}.get(target["met"], DIM)
        for column in (1, 3):
            table[number, column].set_text_props(color=color, fontweight="bold")


def _bars(axes: Any, part: Row) -> None:
    medians = part.get("median", {})
    if not medians:
        return _nothing(axes)
    names = sorted(medians, key=lambda name: medians[name])
    values = [medians[name] for name in names]
    low = [medians[n] - min(part["images_per_second"][n]) for n in names]
    high = [max(part["images_per_second"][n]) - medians[n] for n in names]
    bars = axes.barh(
        names, values, color=[COLORS.get(n, PLAIN) for n in names], xerr=(low, high), ecolor=DIM
    )
    labels = [
        f" {v:,.0f}  ({part['cores'][n]:.1f} cores)" for n, v in zip(names, values, strict=True)
    ]
    axes.bar_label(bars, labels, label_type="edge", fontsize=8.5)
    axes.set_xlim(0, 1.4 * max(max(part["images_per_second"][n]) for n in names))
    axes.set_xlabel(_decoded(part.get("last", {}).get(OURS, {})), fontsize=8.5, color=DIM)
    axes.tick_params(labelsize=8.5)
    _tidy(axes)
    return None


def _decoded(last: Row) -> str:
    """Which parts of the pixels gpuio's codecs had, and what none of them has written."""
    split = {kind: part for kind, part in last.get("split", {}).items() if part}
    parts = [f"{kind} {100 * part:.0f} %" for kind, part in split.items()]
    parts += [f"{last['unwritten']} unwritten"] if "unwritten" in last else []
    return f"{OURS}: {', '.join(parts)}" if parts else ""


def _sweep(parts: dict[str, Row], suffix: str) -> Row:
    bare, dali = (parts.get(f"{n}{suffix}", {}).get("rows", []) for n in ("shares", "DALI"))
    curves = {
        f"{BARE}, {count} at once": [row for row in bare if row["decoders"] == count]
        for count in sorted({row["decoders"] for row in bare})
    }
    own = parts.get(f"pinned{suffix}", {}).get("rows", [])
    curves["gpuio, share pinned"] = own
    for fancy, name in ((True, "DALI, fancy"), (False, "DALI, plain")):
        curves[name] = [row for row in dali if row["fancy"] is fancy]
    return {name: rows for name, rows in curves.items() if rows}


def _shares(axes: Any, curves: Row) -> None:
    if not curves:
        return _nothing(axes)
    for (name, rows), line in zip(curves.items(), ("-", "-", "-.", "--", ":"), strict=False):
        points = sorted((row["share"], row["images_per_second"]) for row in rows)
        axes.plot(*zip(*points, strict=True), marker="o", linestyle=line, label=name)
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    axes.tick_params(labelsize=8.5)
    _tidy(axes)
    return None


def _paths(axes: Any, part: Row) -> None:
    rows = part.get("rows", [])
    keys = ("hardware", "hybrid", "cpu", "portable", "unwritten")
    text = []
    for row in rows:
        total = max(sum(row.get(k, 0) for k in keys[:5]), 1)
        by = ", ".join(
            f"{k} {100 * row[k] / total:.0f}%" for k in keys[:5] if 200 * row.get(k, 0) > total
        )
        text.append(
            [
                row["way"],
                "fancy" if row["fancy"] else "plain",
                str(row.get("decoders", 1)),
                f"{row['images_per_second']:,.0f}",
                by,
                str(row.get("unwritten", "")),
            ]
        )
    head = ["way", "colours", "at once", "images/s", "decoded by", "unwritten"]
    _table(axes, text, [0.23, 0.09, 0.1, 0.12, 0.36, 0.1], head)


def _kernels(axes: Any, parts: dict[str, Row]) -> None:
    rows = parts.get("kernels, large", {}).get("rows", [])
    speed = parts.get("large", {}).get("median", {}).get(OURS)
    if not rows:
        return _nothing(axes)
    names = [row["kind"] for row in rows][::-1]
    used = [row["of_copy_bandwidth"] for row in rows][::-1]
    bars = axes.barh(names, used, color=PLAIN)
    labels = []
    for row in rows[::-1]:
        label = f" {row['kernel_us']:,.0f} us"
        if speed:
            batch = parts["large"]["batch_size"] / speed
            label += f", {row['kernel_us'] / 1e4 / batch:.1f}% of a batch"
        labels.append(label)
    axes.bar_label(bars, labels, fontsize=8.5)
    axes.axvline(1, color=DIM, linewidth=0.8)
    axes.set_xlim(0, 1.6 * max(1, *used))
    axes.tick_params(labelsize=8.5)
    _tidy(axes)
    return None


def _tests(axes: Any, report: Row) -> None:
    tests = report.get("tests", {})
    rows = [
        [
            name,
            *(str(suite.get(k, "")) for k in ("passed", "failed", "skipped")),
            str(suite["took"]),
        ]
        for name, suite in tests.items()
    ]
    head = ["", "passed", "failed", "skipped", "seconds"]
    table = _table(axes, rows, [0.4, 0.15, 0.15, 0.15, 0.15], head)
    for number, suite in enumerate(tests.values(), 1):
        if suite["status"]:
            table[number, 2].set_text_props(color=BAD, fontweight="bold")


def _failures(axes: Any, report: Row) -> None:
    axes.axis("off")
    found = report.get("failures", [])
    lines = list(_wrapped(found))
    if len(lines) > LINES:
        lines = [*lines[:LINES], "... (the rest is in the JSON)"]
    text, color = ("\n".join(lines), BAD) if lines else ("nothing", GOOD)
    axes.text(0, 0.98, text, va="top", fontsize=7.5, family="monospace", color=color)


def _wrapped(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        yield from textwrap.wrap(line, 170, subsequent_indent="    ")[:3]


def _tidy(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> None:
    source, *more = map(Path, sys.argv[1:])
    report = json.loads(source.read_text())
    report = {"benchmark": report} if "parts" in report else report
    print(draw(report, more[0] if more else source.with_suffix(".png")))


if __name__ == "__main__":
    main()
