"""What gpu.py measures, and in which order."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpu_data
import machine
import records
from gpu_child import Row, collect
from gpu_compare import BARE, ON_CPU, OURS, PINNED, PLAIN, SMOOTH, TORCHVISION, SideOf, compare
from gpu_targets import best

FEWER_THREADS = (1, 4)
CROPS = 4
DRAWN = 240  # different pictures, where no .rec is given


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: In the report.
        limit: Seconds that it may take.
        run: From seconds to what the report says.
    """

    name: str
    limit: float
    run: Callable[[float], Row]


class Bench:
    """All measurements, in the order of their importance.

    Args:
        args: Of the command.
        folder: For data.

    Attributes:
        found: What the parts said so far, by their names.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.found: dict[str, Row] = {}
        self.settings: Row = {
            "device": args.device,
            "shape": (3, args.edge, args.edge),
            "batch_size": args.batch_size,
            "threads": machine.cores(),
            "check": 2 * args.batch_size,
            "images": args.images,
            "batches": args.batches,
            "fewer_threads": [n for n in FEWER_THREADS if n < machine.cores()],
            "shares": args.shares,
            "loads": args.loads,
            "seconds": args.turn / 3,
            "count": args.count,
            "rounds": args.rounds,
            "copied": args.copied,
            "matmul": args.matmul,
            "turns": 5,
            "engines": 0,
        }

    def make(self) -> Row:
        """Make the data, as it is and small; what mixture it is."""
        pictures = gpu_data.load(self.args.rec, DRAWN)
        shrunk = [records.shrink(picture) for picture in pictures]
        count = self.args.records
        self.data = {
            "large": (records.save("large", pictures, count, self.folder), self.args.resize),
            "small": (records.save("small", shrunk, count, self.folder), -1),
        }
        return {"large": gpu_data.mixture(pictures), "small": gpu_data.mixture(shrunk)}

    def given(self, name: str) -> Row:
        """Settings for a data set."""
        data, resize = self.data[name]
        return self.settings | {"rec": data.path, "size": data.size, "resize": resize}

    def parts(self) -> list[Part]:
        """What is measured, in this order."""
        caches = {"NUMBA_CACHE_DIR": "numba", "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda"}
        fresh = {name: str(self.folder / folder) for name, folder in caches.items()}

        def measure(
            script: str, name: str, data: str = "large", **more: Any
        ) -> Callable[[float], Row]:
            environment = more.pop("environment", None)
            return lambda limit: collect(
                f"{script}.py", name, self.given(data) | more, limit, environment
            )

        few = {"batch_size": min(64, self.args.batch_size)}
        some, fewer = self.settings["loads"][::2], self.settings["shares"][1::2]
        return [
            Part("hardware", 60, self._hardware),
            Part("paths", 60, measure("gpu_decode", "paths")),
            Part("shares", 70, lambda limit: self._shares("large", limit)),
            Part("pinned", 50, measure("gpu_sides", "pinned")),
            Part("DALI", 70, measure("gpu_peers", "dali")),
            Part("large", 130, lambda limit: self._compare("large", limit)),
            Part("kernels, large", 60, measure("gpu_kernels", "kernels", kinds=self.args.kinds)),
            Part("overlap", 40, measure("gpu_loop", "overlap")),
            Part("first batch, cold", 90, measure("gpu_loop", "first", environment=fresh)),
            Part("first batch, warm", 30, measure("gpu_loop", "first", environment=fresh)),
            Part("shares, small", 50, lambda limit: self._shares("small", limit)),
            Part("pinned, small", 30, measure("gpu_sides", "pinned", "small", shares=fewer)),
            Part("DALI, small", 50, measure("gpu_peers", "dali", "small", loads=some)),
            Part("small", 100, lambda limit: self._compare("small", limit)),
            Part("kernels, small", 20, measure("gpu_kernels", "kernels", "small", kinds=["crop"])),
            *(
                Part(
                    f"damage, {kind}",
                    30,
                    measure("gpu_probe", "damage", codecs=[kind], **few),
                )
                for kind in ("hardware", "hybrid", "cpu")
            ),
            Part("difference", 30, measure("gpu_probe", "difference", **few)),
            Part("several crops", 60, self._crops),
            Part("stream order", 40, measure("gpu_order", "order", **few | {"batch_size": 16})),
            Part("share of the engines", 20, measure("gpu_order", "share")),
            Part("sizes", 60, measure("gpu_decode", "sizes")),
            Part("windows", 30, measure("gpu_probe", "regions", codecs=["hybrid", "cpu"], **few)),
        ]

    def _hardware(self, limit: float) -> Row:
        found = collect("gpu_decode.py", "hardware", self.given("large"), limit)
        if found["rows"]:
            self.settings["engines"] = found["rows"][0]["engines"]
        return found

    def _shares(self, data: str, limit: float) -> Row:
        """Shares of the engines, in the way that was the fastest of nvImageCodec's.

        Of the small images fewer, with as many decoders at once as were best for the large ones.
        """
        rows = self.found.get("paths", {}).get("rows", [])
        way = best([row for row in rows if "decoders" in row], fancy=True).get("way", "default")
        more: Row = {"way": way, "decoders": [1, 2]}
        if data == "small":
            shares = self.settings["shares"][-1::-2][::-1]
            more |= {
                "shares": shares,
                "decoders": [self.best("shares", "large").get("decoders", 2)],
            }
        return collect("gpu_decode.py", "shares", self.given(data) | more, limit)

    def best(self, part: str, data: str, **where: object) -> Row:
        """The fastest row of a sweep over these data; empty if there is none."""
        name = part if data == "large" else f"{part}, {data}"
        return best(self.found.get(name, {}).get("rows", []), **where)

    def sides(self, data: str) -> list[SideOf]:
        """What is compared; what is not installed says so when it starts."""
        bare = self.best("shares", data, fancy=True)
        options = {k: bare[k] for k in ("way", "share", "decoders") if k in bare}
        own = self.best("pinned", data)
        pinned = {"engine_share": own["share"]} if own else {}
        loads = {
            fancy: {"hw_decoder_load": row["share"]} if row else {}
            for fancy in (True, False)
            for row in [self.best("DALI", data, fancy=fancy)]
        }
        peers = "gpu_peers.py"
        return [
            SideOf(BARE, "gpu_bare.py", "Bare", options),
            SideOf(OURS, "gpu_sides.py", "Gpuio"),
            *([SideOf(PINNED, "gpu_sides.py", "Gpuio", pinned)] if pinned else []),
            SideOf(SMOOTH, peers, "Dali", {"jpeg_fancy_upsampling": True} | loads[True]),
            SideOf(PLAIN, peers, "Dali", {"jpeg_fancy_upsampling": False} | loads[False]),
            SideOf(TORCHVISION, peers, "Torchvision"),
            SideOf(ON_CPU, "gpu_sides.py", "Gpuio", device="cpu"),
        ]

    def _compare(self, name: str, limit: float) -> Row:
        data = {k: v for k, v in asdict(self.data[name][0]).items() if k != "path"}
        wanted = [s for s in self.sides(name) if self.args.sides in (None, s.side)]
        found = compare(self.given(name), wanted, self.args.turn, self.args.rounds, limit)
        chosen = {side.name: side.options for side in wanted}
        return {"data": data, "batch_size": self.args.batch_size, "options": chosen, **found}

    def _crops(self, limit: float) -> Row:
        """Several crops of each image: the others decode once for all, gpuio for each of them."""
        several = {"crops": CROPS, "jpeg_fancy_upsampling": True}
        wanted = [
            SideOf(OURS, "gpu_sides.py", "Gpuio"),
            SideOf(SMOOTH, "gpu_peers.py", "Dali", several),
            SideOf(TORCHVISION, "gpu_peers.py", "Torchvision", {"crops": CROPS}),
        ]
        wanted = [s for s in wanted if self.args.sides in (None, s.side)]
        found = compare(self.given("large"), wanted, self.args.turn, 2, limit)
        return {"crops": CROPS, "batch_size": self.args.batch_size, **found}
