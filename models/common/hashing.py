"""Hashes that are the same on every machine and in every run."""

import numpy as np


def mix(integers: np.ndarray, seed: int) -> np.ndarray:
    """Hash integers [n] to uint64 [n] with SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    increment = (0x9E3779B97F4A7C15 * (seed % (1 << 64) + 1)) % (1 << 64)
    with np.errstate(over="ignore"):
        value = integers.astype(np.uint64) + np.uint64(increment)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
