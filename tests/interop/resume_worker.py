"""One of the processes that `test_resume.py` starts under torchrun: REC FOLDER EPOCHS.

Every step is written down, and the first process saves the state after it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import gpuio

PAUSE = 0.01  # seconds in a step


def make(rec, parts, index):
    """A loader of one part."""
    source = gpuio.ImageRecordIter(
        rec, (3, 16, 16), 2, shuffle=True, rand_crop=True, rand_mirror=True, brightness=0.4,
        num_parts=parts, part_index=index,
    )  # fmt: skip
    return source.torch()


def steps(loader, epochs):
    """What there is to tell of each batch that is left of so many epochs."""
    for epoch in range(loader.epoch, epochs):
        for images, labels in loader:
            own = len(labels) - loader.pad
            digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes())
            yield {"epoch": epoch, "own": labels[:own].tolist(), "digest": digest.hexdigest()}


def main(rec, folder, epochs):
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    loader = make(rec, world, rank)
    saved, state = folder / "state.json", {"step": 0}
    if saved.exists():
        state = json.loads(saved.read_text())
        loader.load_state_dict(state["loader"])
    with (folder / f"{world}-{rank}.log").open("a") as log:
        for step, line in enumerate(steps(loader, epochs), state["step"]):
            log.write(json.dumps({"step": step, **line}) + "\n")
            log.flush()
            time.sleep(PAUSE)
            dist.barrier()  # every process has made this step
            if rank == 0:
                fresh = saved.with_suffix(".new")
                fresh.write_text(json.dumps({"step": step + 1, "loader": loader.state_dict()}))
                fresh.replace(saved)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
