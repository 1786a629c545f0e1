"""Numba kernels, each written once for CPU and CUDA."""
