"""Hard samples: which places are mistaken for each other, and an order that brings them together.

A table names the nearest wrong places of every place. It comes from a mining pass over the
training places (`distill/mining.py`) or from a file, and is never made from the test set.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_shards.errors import PlanError


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """The nearest wrong places of every planned place.

    P = places, k = neighbours of each.
    """

    table: npt.NDArray[np.int32]
    """Numbers 0 to P - 1, the nearest first [P, k]."""

    places: tuple[str, ...]
    """Identifiers of the places, in the order of the plan [P]."""

    @cached_property
    def digest(self) -> str:
        """Name of this very table: SHA-256 over its places and rows."""
        sha = hashlib.sha256("\n".join(self.places).encode())
        sha.update(np.ascontiguousarray(self.table, dtype="<i4").tobytes())
        return sha.hexdigest()

    def check(self) -> "Neighbours":
        """Return the table if an order can be made of it.

        Raises:
            PlanError: its shape is wrong, it names a place that is not there, or a place itself.
        """
        shape, count = self.table.shape, len(self.places)
        if len(shape) != 2 or shape[0] != count or shape[1] < 1:
            raise PlanError(
                f"a table of shape {list(shape)} cannot name the neighbours of {count} places; it "
                f"must be [{count}, k] with k at least 1"
            )
        is_wrong = (self.table < 0) | (self.table >= count)
        is_wrong |= self.table == np.arange(count)[:, None]
        if is_wrong.any():
            row = int(is_wrong.any(axis=1).argmax())
            raise PlanError(
                f"the neighbours of place {self.places[row]} (row {row}) must be numbers of other "
                f"places, 0 to {count - 1}"
            )
        return self


def write_neighbours(path: Path, neighbours: Neighbours) -> None:
    """Write a table as `.npz`: `neighbours` [P, k] and the identifiers `places` [P]."""
    places = np.array(neighbours.places, dtype=np.str_)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, neighbours=neighbours.table, places=places)


def read_neighbours(path: Path, places: tuple[str, ...] | None = None) -> Neighbours:
    """Read a table from `.npz` as `write_neighbours` writes it, or a bare one from `.npy`.

    Args:
        path: the file.
        places: identifiers of the planned places, in order; None takes those of the file.

    Raises:
        PlanError: there is none, it is no such file, of other places, or no table for them.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            table = loaded if isinstance(loaded, np.ndarray) else loaded["neighbours"]
            named = None if isinstance(loaded, np.ndarray) else tuple(loaded["places"].tolist())
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}); give a table's file") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise PlanError(
            f"{path} is no table of neighbours ({' '.join(str(error).split())}); give the "
            "neighbours.npz of a checkpoint, or an array [places, k] saved as .npy"
        ) from error
    if not np.issubdtype(table.dtype, np.integer):
        raise PlanError(f"{path} holds {table.dtype}, not whole numbers; a table names places")
    places = places or named
    if places is None or named not in (None, places):
        raise PlanError(
            f"{path} is a table of {len(named or ())} other places than the "
            f"{len(places or ())} planned; hold out the same ones (--validation-fraction, "
            "--validation-seed), or mine again"
        )
    try:
        checked = Neighbours(table=table, places=places).check()
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error
    return Neighbours(table=checked.table.astype(np.int32), places=places)


def chained(
    order: npt.NDArray[np.int32], neighbours: Neighbours, *, first: int, batch: int
) -> npt.NDArray[np.int32]:
    """Reorder a round so that places stand in a batch with their nearest wrong ones.

    In each batch a seed comes first, the first place of `order` that is left; then its neighbours
    that are left, the nearest first, then those of its nearest, and so on; with nobody left to
    follow, a new seed. Every place of `order` comes once. O(places * k).

    Args:
        order: places of the round, as drawn.
        neighbours: over all places; those not in `order` are passed over.
        first: rows of the first batch that belong to this round.
        batch: rows of every further batch.
    """
    table, left = neighbours.table, bytearray(len(neighbours.table))
    members = order.tolist()
    for place in members:
        left[place] = 1
    seeds = iter(members)
    chain: list[int] = []
    end = first
    while len(chain) < len(members):
        following, full = len(chain), min(end, len(members))
        while len(chain) < full:  # one batch
            if following == len(chain):
                candidates = [next(seed for seed in seeds if left[seed])]
            else:
                candidates = table[chain[following]].tolist()
                following += 1
            for place in candidates:
                if left[place] and len(chain) < full:
                    left[place] = 0
                    chain.append(place)
        end += batch
    return np.array(chain, dtype=np.int32)
