"""The child that runs cases: `python -m robustness.worker FOLDER`.

Lines of JSON come in on standard input, each a request. Lines of JSON go out on what was standard
output: `begin` before each case and `end` after it, so that the parent knows whose fault it is if
nothing more comes. What else is printed goes to standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

MEMORY = 4 << 30  # bytes of address space that cases may take beyond what was taken before


class Worker:
    """Answers requests until there are no more."""

    def __init__(self, folder: Path, out: int) -> None:
        from .case import Door
        from .judge import Judge

        self.folder, self._out = folder, out
        self._doors: dict[str, Door] = {}
        self._judge = Judge(folder / "case")

    def tell(self, **what: Any) -> None:
        os.write(self._out, json.dumps(what).encode() + b"\n")

    def answer(self, request: dict[str, Any]) -> None:
        """Run the cases of some seeds; or one from a file; or write one to a file."""
        from .doors import make_case

        door = self._door(request["door"])
        if "save" in request:
            Path(request["save"]).write_bytes(pickle.dumps(make_case(door, request["seed"])))
        elif "case" in request:
            self._run(door, pickle.loads(Path(request["case"]).read_bytes()))
        else:
            for seed in range(request["seed"], request["seed"] + request["count"]):
                self._run(door, make_case(door, seed))
        self.tell(event="done")

    def _run(self, door: Any, case: Any) -> None:
        self.tell(event="begin", seed=case.seed)
        verdict = self._judge(door, case)
        inputs = max(len(case.damaged), 1)
        self.tell(event="end", kind=verdict.kind, text=verdict.text, inputs=inputs)

    def _door(self, name: str) -> Any:
        from .doors import DOORS

        if name not in self._doors:
            self.tell(event="prepare", door=name)
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, _HARD))
            door = self._doors[name] = DOORS[name]()
            door.prepare(folder)
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, _HARD))
            self.tell(event="prepared", door=name)
        return self._doors[name]


_HARD = resource.getrlimit(resource.RLIMIT_AS)[1]


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker = Worker(Path(sys.argv[1]), out)
    for line in sys.stdin:
        worker.answer(json.loads(line))


if __name__ == "__main__":
    main()
