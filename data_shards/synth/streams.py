"""Random streams that are named, so that nothing drawn for one thing moves another."""

import zlib

import numpy as np


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """Return the generator that belongs to these words, whoever asks and in whatever order."""
    entropy = [seed, *(zlib.crc32(str(word).encode()) for word in words)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
