from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.errors import PlanError
from data_shards.planning.neighbours import Neighbours, chained, read_neighbours, write_neighbours

RING = np.array([[1, 4], [2, 0], [3, 1], [4, 2], [0, 3]], dtype=np.int32)
NAMES = ("a", "b", "c", "d", "e")


def ring() -> Neighbours:
    return Neighbours(table=RING, places=NAMES)


def test_a_seed_is_followed_by_its_nearest_and_theirs() -> None:
    order = np.array([2, 0, 1, 3, 4], dtype=np.int32)
    # 2, its neighbours 3 and 1, then 3's: 4; a new batch: 0 is left.
    assert chained(order, ring(), first=4, batch=4).tolist() == [2, 3, 1, 4, 0]
    # A batch that is full stops there, and the next seed is the first that is left.
    assert chained(order, ring(), first=2, batch=2).tolist() == [2, 3, 0, 1, 4]


def test_places_of_other_rounds_are_passed_over() -> None:
    order = np.array([4, 2, 0], dtype=np.int32)
    assert chained(order, ring(), first=3, batch=3).tolist() == [4, 0, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(0, 99), st.data())
def test_a_chain_holds_every_place_once(count: int, seed: int, data) -> None:
    random = np.random.default_rng(seed)
    table = (np.arange(count)[:, None] + random.integers(1, count, (count, 4))) % count
    neighbours = Neighbours(
        table=table.astype(np.int32), places=tuple(map(str, range(count)))
    ).check()
    order = random.permutation(count)[: data.draw(st.integers(1, count))].astype(np.int32)
    batch = data.draw(st.integers(1, count))
    chain = chained(order, neighbours, first=data.draw(st.integers(1, batch)), batch=batch)
    assert sorted(chain.tolist()) == sorted(order.tolist())
    assert chain[0] == order[0]


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    write_neighbours(tmp_path / "table.npz", ring())
    for places in (None, NAMES):
        read = read_neighbours(tmp_path / "table.npz", places)
        assert read.table.tolist() == RING.tolist() and read.places == NAMES
        assert read.digest == ring().digest
    np.save(tmp_path / "bare.npy", RING.astype(np.int64))
    assert read_neighbours(tmp_path / "bare.npy", NAMES).digest == ring().digest


def test_the_digest_names_table_and_places() -> None:
    other = Neighbours(table=RING[::-1], places=NAMES)
    strangers = Neighbours(table=RING, places=("f", *NAMES[1:]))
    assert len({ring().digest, other.digest, strangers.digest}) == 3


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (RING[:4], r"shape \[4, 2\] cannot name the neighbours of 5 places; it must be \[5, k\]"),
        (RING[:, :0], r"shape \[5, 0\]"),
        (RING[0], r"shape \[2\]"),
        (RING - 1, "neighbours of place a .row 0. must be numbers of other places, 0 to 4"),
        (RING + 1, "neighbours of place a .row 0. must be"),
        (np.full((5, 1), 3), "neighbours of place d .row 3. must be numbers of other places"),
        (RING.astype(float), "holds float64, not whole numbers"),
    ],
)
def test_a_table_that_is_none_is_refused(table, sentence: str, tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", table)
    with pytest.raises(PlanError, match=sentence) as told:
        read_neighbours(tmp_path / "table.npy", NAMES)
    assert str(told.value).startswith(str(tmp_path / "table.npy"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read .No such file"),
        (b"", "is no table of neighbours"),
        (b"text", "is no table of neighbours"),
        (b"PK\x03\x04 cut short", "is no table of neighbours"),
    ],
)
def test_a_file_that_holds_no_table_is_refused(content, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=sentence):
        read_neighbours(path, NAMES)


def test_a_table_without_its_arrays_or_of_others_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", descriptors=RING)
    with pytest.raises(PlanError, match="is no table of neighbours"):
        read_neighbours(tmp_path / "other.npz", NAMES)
    write_neighbours(tmp_path / "table.npz", ring())
    with pytest.raises(PlanError, match="a table of 5 other places than the 4 planned; hold out"):
        read_neighbours(tmp_path / "table.npz", NAMES[:4])
    with pytest.raises(PlanError, match="bare.npy is a table of 0 other places"):
        np.save(tmp_path / "bare.npy", RING)
        read_neighbours(tmp_path / "bare.npy")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(PlanError, match="is no table of neighbours"):
        read_neighbours(tmp_path / "table.npy", NAMES)
