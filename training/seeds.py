"""Generators derived from (seed, name), so that a new draw in one place moves no other draw."""

import hashlib
import json

import numpy as np


def derive(*parts: int | str) -> int:
    """Hash the parts to a seed in [0, 2^63)."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """Make the generator of the parts; Philox, because it is made in microseconds."""
    return np.random.Generator(np.random.Philox(key=derive(*parts)))
