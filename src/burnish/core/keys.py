"""Randomness is derived, not stored: a key names a place in the run, and a key gives the same numbers for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count as counting

import numpy as np
from numpy.typing import NDArray


def derive(*parts: str | int) -> int:
    """A 128-bit key from the names and numbers that say where in the run we are.

    Parts are separated and typed before hashing (blake2b), so ``("a", 1)`` and ``("a1",)`` differ. Python's ``hash`` and
    global generators are never used.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{type(part).__name__}:{part}\x1f".encode())
    return int.from_bytes(digest.digest(), "little")


def uniforms(key: int, count: int, start: int = 0) -> NDArray[np.float64]:
    """Uniforms in [0, 1) at positions ``start .. start + count - 1`` of the stream named by ``key``.

    The generator is counter-based (Philox), so any position is reached without drawing the ones before it.
    """
    block = np.random.Philox(key=key, counter=start // 4)
    return np.random.Generator(block).random(count + start % 4)[start % 4 :]


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)`` drawn from the stream named by ``key``."""
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def passes(key: int, count: int, start: int = 0) -> Iterator[int]:
    """The items of an endless stream of shuffled passes over ``range(count)``, from place ``start`` of the stream on."""
    first, offset = divmod(start, count)
    for epoch in counting(first):
        yield from permutation(derive(key, epoch), count)[offset:].tolist()
        offset = 0
