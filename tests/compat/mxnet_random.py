"""MXNet's random numbers: those of std::mt19937 through the distributions of GNU's C++ library.

For mxnet_conformance.py and mxnet_det.py, which draw with them what MXNet draws; also read by the
old Python that has MXNet.

Source: GNU libstdc++, bits/random.tcc and bits/stl_algo.h.
"""

from __future__ import annotations

import numpy as np

F32 = np.float32


class Engine:
    """An mt19937 with a seed, and what is drawn with it, each in the order of C++."""

    def __init__(self, seed):
        self._state = np.random.RandomState(seed)

    def word(self):
        """32 random bits."""
        return int(self._state.randint(0, 2**32, dtype=np.uint32))

    def unit(self):
        """A float32 in [0, 1)."""
        return min(F32(self.word()) / F32(2**32), np.nextafter(F32(1), F32(0)))

    def uniform(self, low, high):
        """A float32 in [low, high)."""
        return self.unit() * (F32(high) - F32(low)) + F32(low)

    def integer(self, low, high):
        """A whole number in [low, high], `high` included."""
        count = high - low + 1
        quotient = (2**32 - 1) // count
        while (word := self.word()) >= count * quotient:
            pass
        return low + word // quotient

    def coin(self):
        """True for one half."""
        return (self.word() + self.word() * 2**32) / 2**64 < 0.5

    def normals(self):
        """Two of the standard normal distribution, by the polar method."""
        while True:
            x, y = F32(2) * self.unit() - F32(1), F32(2) * self.unit() - F32(1)
            square = x * x + y * y
            if 0 < square <= 1:
                break
        radius = np.sqrt(F32(-2) * np.log(square) / square)
        return y * radius, x * radius

    def shuffled(self, count):
        """The numbers from 0 to count - 1 in random order."""
        order = list(range(count))
        for place in range(1, count):
            other = self.integer(0, place)
            order[place], order[other] = order[other], order[place]
        return order
