"""Smooth random fields from random lattices, for relief, soil, canopy and wear."""

import zlib

import numpy as np

from data_shards.synth.grid import Floats, Grid


def stream(seed: int, *words: str | int) -> np.random.Generator:
    """Return the generator that belongs to these words, whoever asks and in whatever order."""
    entropy = [seed, *(zlib.crc32(str(word).encode()) for word in words)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def value_noise(rng: np.random.Generator, grid: Grid, *, wavelength_m: float) -> Floats:
    """Return a smooth field in -1..1 whose bumps are about `wavelength_m` wide."""
    position = np.arange(grid.cells) * (grid.cell_m / wavelength_m)
    lattice = rng.uniform(-1, 1, (int(position[-1]) + 3,) * 2).astype(np.float32)
    y, x = position + rng.uniform(0, 1), position + rng.uniform(0, 1)
    rows = _blend(lattice, y)
    return np.ascontiguousarray(_blend(np.ascontiguousarray(rows.T), x).T)


def fractal_noise(
    rng: np.random.Generator, grid: Grid, *, wavelength_m: float, octaves: int, gain: float = 0.5
) -> Floats:
    """Return the sum of fields, each half as wide and `gain` as strong as the one before."""
    total = np.zeros((grid.cells, grid.cells), np.float32)
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        width_m = wavelength_m / 2**octave
        total += np.float32(weight) * value_noise(rng, grid, wavelength_m=width_m)
        norm += weight
        weight *= gain
    return total / np.float32(norm)


def _blend(lattice: Floats, position: np.ndarray) -> Floats:
    """Interpolate the rows of a lattice at fractional positions, with a smooth step."""
    first = position.astype(np.int64)
    step = (position - first).astype(np.float32)[:, None]
    step = step * step * (3 - 2 * step)
    return lattice[first] * (1 - step) + lattice[first + 1] * step
