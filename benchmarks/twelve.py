"""Twelve small functions, compiled by Numba: the unit in which `first_batch.py` measures.

How long compiling takes differs between machines by more than between versions of gpuio. So each
figure is divided by what these functions take in the same run: loops, arrays and integers, each a
few lines long, as the first pages of Numba's documentation have them.

    python benchmarks/twelve.py     # prints the CPU seconds of compiling them
"""

from __future__ import annotations

import time

import numpy as np
from numba import njit


def affine(x):
    return 3 * x + 1


def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def divisor(a, b):
    while b:
        a, b = b, a % b
    return a


def total(a):
    found = 0.0
    for k in range(len(a)):
        found += a[k]
    return found


def largest(a):
    found = a[0]
    for k in range(len(a)):
        found = max(found, a[k])
    return found


def count_above(a, limit):
    found = 0
    for k in range(len(a)):
        if a[k] > limit:
            found += 1
    return found


def dot(a, b):
    found = 0.0
    for k in range(len(a)):
        found += a[k] * b[k]
    return found


def add_scaled(a, x, y):
    for k in range(len(x)):
        y[k] += a * x[k]


def clamp(a, low, high):
    for k in range(len(a)):
        a[k] = min(max(a[k], low), high)


def running_total(a, out):
    found = 0.0
    for k in range(len(a)):
        found += a[k]
        out[k] = found


def reverse(a):
    last = len(a) - 1
    for k in range(len(a) // 2):
        a[k], a[last - k] = a[last - k], a[k]


def transpose(a, out):
    for y in range(a.shape[0]):
        for x in range(a.shape[1]):
            out[x, y] = a[y, x]


VALUES, TABLE = np.arange(10.0), np.ones((3, 4))
CALLS = (
    (affine, (3,)),
    (fibonacci, (5,)),
    (divisor, (12, 8)),
    (total, (VALUES,)),
    (largest, (VALUES,)),
    (count_above, (VALUES, 2.0)),
    (dot, (VALUES, VALUES)),
    (add_scaled, (2.0, VALUES, VALUES)),
    (clamp, (VALUES, 1.0, 2.0)),
    (running_total, (VALUES, VALUES)),
    (reverse, (VALUES,)),
    (transpose, (TABLE, np.ones((4, 3)))),
)


def main() -> None:
    begin = time.process_time()
    for function, args in CALLS:
        njit(function)(*args)
    print(time.process_time() - begin)


if __name__ == "__main__":
    main()
