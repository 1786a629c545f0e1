"""`python -m robustness`, in `tests`: fuzz for some minutes, or until so many inputs were tried."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .campaign import Campaign
from .doors import DOORS
from .stress import SCENES, run_scenes

_FOLDER = Path(__file__).parents[2] / ".fuzz"
_STRESS = 1 / 6  # of the time


def main() -> int:
    """The exit status: 0, or 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="robustness", description=__doc__)
    parser.add_argument("--minutes", type=float, help="stop after so long (default: 30)")
    parser.add_argument("--inputs", type=int, help="stop after so many damaged inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each door")
    parser.add_argument("--door", action="append", choices=sorted(DOORS), help="default: all")
    parser.add_argument("--stress", action="store_true", help="a sixth of the time: stress")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="of the journal")
    parser.add_argument("--replay", type=Path, metavar="CASE", help="run one case that was kept")
    args = parser.parse_args()
    if args.minutes is None and args.inputs is None:
        args.minutes = 30.0
    seconds = None if args.minutes is None else 60 * args.minutes
    with Campaign(args.folder) as campaign:
        if args.replay:
            print(campaign.replay(args.replay))
            return 0
        stress = seconds * _STRESS if args.stress and seconds else 0.0
        began = time.monotonic()
        try:
            campaign.run(
                args.door or list(DOORS),
                seed=args.seed,
                seconds=None if seconds is None else seconds - stress,
                inputs=args.inputs,
            )
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        print(campaign.table())
        print(f"{time.monotonic() - began:.0f} s, journal: {args.folder / 'journal.jsonl'}")
        failures = run_scenes(SCENES, stress) if stress else []
        for failure in failures:
            print(f"stress: {failure}")
        return 1 if campaign.found or failures else 0


if __name__ == "__main__":
    sys.exit(main())
