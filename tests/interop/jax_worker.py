"""One of the processes that `test_jax.py` starts: PORT PROCESSES NUMBER REC BATCH_SIZE."""

from __future__ import annotations

import sys

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gpuio import ImageRecordIter

port, processes, number, rec, batch_size = sys.argv[1:]
count, part = int(processes), int(number)
if count > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, part)
size = int(batch_size)
mesh = jax.make_mesh((jax.device_count(),), ("data",))


def part_of(index: int) -> ImageRecordIter:
    return ImageRecordIter(rec, (3, 16, 16), size, shuffle=True, num_parts=count, part_index=index)


mine = part_of(part)
try:
    loader = mine.jax(sharding=mesh)
except ValueError as error:
    sys.exit(str(error))
everywhere = NamedSharding(mesh, PartitionSpec())
total = jax.jit(lambda images: images.sum(), out_shardings=everywhere)
for step, ((images, labels), *batches) in enumerate(
    zip(loader, *map(part_of, range(count)), strict=True)
):
    if not step:
        sizes = {len(shard.data) for shard in images.addressable_shards}
        print(f"{len(images.sharding.device_set)} devices, shards of {sorted(sizes)}")
    whole = (
        np.concatenate([batch.data[0] for batch in batches]),
        np.concatenate([batch.label[0] for batch in batches]),
    )
    for found, expected in zip((images, labels), whole, strict=True):
        assert found.shape == expected.shape
        for shard in found.addressable_shards:
            np.testing.assert_array_equal(shard.data, expected[shard.index])
    print(f"step {step}: {float(total(images))}")

_, labels = next(iter(mine.jax(sharding=NamedSharding(mesh, PartitionSpec("data", None)))))
assert labels.shape == (count * size,)
