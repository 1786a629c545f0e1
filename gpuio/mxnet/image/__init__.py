"""MXNet's `mx.image`, which `gpuio.image` shows: one file for each kind of thing."""
