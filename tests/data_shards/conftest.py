"""Image tables of any size without images, and the command line in the same process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data_shards.manifest import Manifest
from data_shards.schema import Role, View
from data_shards.shards import ImageTable, ShardSet
from launch.main import main

MakeTable = Callable[..., ShardSet]


def make_table(
    drones: Sequence[int],
    satellites: int = 1,
    *,
    street: Sequence[int] = (),
    altitudes: Sequence[float] = (0.0,),
) -> ShardSet:
    """Return shards of one training place per entry of `drones`, which counts its drone views.

    Drone views stand at `altitudes` in turn; `street` counts street photographs per place.
    """
    views = {View.SATELLITE: [satellites] * len(drones), View.DRONE: drones, View.STREET: street}
    counts = np.concatenate([np.asarray(count, dtype=np.int64) for count in views.values()])
    place = np.repeat(np.concatenate([np.arange(len(c)) for c in views.values()]), counts)
    view = np.repeat(list(views), [sum(count) for count in views.values()])
    position = np.concatenate([np.arange(1, count + 1) for count in counts])
    heights = np.asarray(altitudes, dtype=np.float32)[(position - 1) % len(altitudes)]
    zeros = np.zeros(len(place), dtype=np.int64)
    names = zip(place.tolist(), view.tolist(), position.tolist(), strict=True)
    images = ImageTable(
        key=np.array([f"{p:04d}/{View(v).word}/{n}" for p, v, n in names]),
        place=place,
        view=view.astype(np.uint8),
        roles=np.full(len(place), Role.TRAIN, dtype=np.uint8),
        position=position,
        altitude_m=np.where(view == View.DRONE, heights, np.float32(np.nan)),
        orientation=np.ones(len(place), dtype=np.uint8),
        shard=zeros,
        offset=zeros,
        size=zeros,
        digest=zeros.astype(np.uint64),
    )
    places = tuple(f"{number:04d}" for number in range(len(drones)))
    manifest = Manifest(layout="table", places=places, counts={}, shards=(), content_sha256="")
    return ShardSet(Path("table"), manifest, images)


@pytest.fixture(scope="session")
def table() -> MakeTable:
    """The function that makes an image table from view counts."""
    return make_table


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What a user's mistake was answered with: one line, no traceback, exit code 2."""
        assert self.code == 2, self.err
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("skydistill: ")]
        assert len(lines) == 1, self.err
        assert self.err.splitlines()[-1] == lines[0], self.err
        return lines[0]


@pytest.fixture
def skydistill(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ending]:
    """Run `skydistill WORDS` in this process."""

    def run(*words: object) -> Ending:
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return Ending(code=code, out=shown.out, err=shown.err)

    return run
