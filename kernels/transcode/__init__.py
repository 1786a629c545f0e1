"""The coefficients of JPEGs, out of scans of any kind and into one sequential scan, for packing.

Plain code on arrays, with bounds checks. The decoder of training is `gpuio.kernels.jpeg`.
"""
