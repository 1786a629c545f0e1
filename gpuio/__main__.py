"""`python -m gpuio`: the command, where its script is not on the path."""

from __future__ import annotations

from gpuio.cli import script

if __name__ == "__main__":
    script()
