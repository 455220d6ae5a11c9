"""Random numbers as a pure function of their names: no state, no library, no order of calls.

`mix(a, b, c)` hashes integers (arrays broadcast) to 64 bits with the finalizer of SplitMix64
(Steele, Lea, Flood, OOPSLA 2014); the same numbers give the same draw on every machine.
"""

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)


def mix(*names: "int | npt.NDArray[np.integer] | Bits") -> Bits:
    """Hash integers to 64 bits, element by element; a negative one counts from 2**64 down."""
    state = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in names:
            state = state ^ (np.asarray(name).astype(np.uint64) + _STEP)
            state = (state + _STEP).astype(np.uint64)
            state = (state ^ (state >> np.uint64(30))) * _FACTOR_1
            state = (state ^ (state >> np.uint64(27))) * _FACTOR_2
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(bits: Bits) -> npt.NDArray[np.float64]:
    """Turn bits into numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
