"""Which places train and which are queried, where the folders do not say it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from data_shards.errors import LayoutError, counted, require_known
from data_shards.layouts.folders import same_id
from data_shards.text_files import read_text

SPLIT_NAME = "split.yaml"
"""File beside raw folders that says which places train; `skydistill synth` writes one."""

OFFICIAL = "official"
OFFICIAL_FILES = {"sues200": Path(__file__).with_name("sues200_split.yaml")}
SIDES = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """The ids of two sides, without leading zeros; `1` and `0001` are one place."""

    name: str
    """`official`, the name of a file, or what all places are for: `train` or `test`."""

    train: frozenset[str]

    test: frozenset[str] | None
    """None means all places that do not train."""

    @property
    def named(self) -> frozenset[str]:
        """Ids of both sides."""
        return self.train | (self.test or frozenset())

    def names_exactly(self, places: Iterable[str]) -> bool:
        """Tell whether these are all the places that both sides name, and no others."""
        return self.named == {same_id(place) for place in places}

    def train_of(self, places: Iterable[str]) -> set[str]:
        return {place for place in places if same_id(place) in self.train}


@cache
def official_split(layout: str) -> Split | None:
    """Return the published split of a layout's data set, where its folders do not hold it."""
    path = OFFICIAL_FILES.get(layout)
    return read_split(path, name=OFFICIAL) if path else None


def choose_split(raw: Path, places: Iterable[str], *, file: Path | None, layout: str) -> Split:
    """Return the split to use: `file`, else `split.yaml` in `raw`, else the official one.

    Where a data set has no official split, all of its places are to test on. `file` may be one of
    the words `train` and `test`: all places are for that. One that says what the official split
    says is called official.

    Raises:
        LayoutError: the file is wrong or names other places; or there is none, and the places are
            not all those of the official split.
    """
    known = sorted(places)
    there, official = frozenset(map(same_id, known)), official_split(layout)
    is_whole = official is not None and official.names_exactly(known)
    beside = raw / SPLIT_NAME
    if file is None and beside.is_file():
        file = beside
    if file is None:
        if official is None:
            return Split(name="test", train=frozenset(), test=there)
        if not is_whole:
            ids = len(official.train) + len(official.test or ())
            raise LayoutError(
                f"{raw} has {counted(len(known), 'place')} and not the ids 1 to {ids} of the "
                "official split; say with --split FILE (YAML: a list of ids under train) which "
                "places train, or with --split train or test that all do or none"
            )
        return official
    if str(file) in SIDES:
        return Split(
            name=str(file), train=there if str(file) == "train" else frozenset(), test=None
        )
    split = read_split(file, name=file.name)
    if gone := sorted(split.named - there, key=lambda place: (len(place), place)):
        raise LayoutError(
            f"{file} names place {gone[0]} ({len(gone)} in all), which has no folder; correct the "
            "file or restore the place"
        )
    left = [place for place in known if same_id(place) not in split.named]
    if split.test is not None and left:
        raise LayoutError(
            f"{file} does not say whether place {left[0]} ({len(left)} in all) is train or test; "
            "add it, or leave out test to test on all places that do not train"
        )
    return official if official and is_whole and split.train == official.train else split


def read_split(path: Path, *, name: str) -> Split:
    """Read a split file: `train`, a list of ids, and if wanted `test`, another one.

    Raises:
        LayoutError: it cannot be read, or does not say which places train.
    """
    try:
        # As text: YAML would read the id 0010 as the octal number 8.
        values = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except OSError as error:
        raise LayoutError(
            f"split file {path} cannot be read ({error.strerror}); give a YAML file with a list "
            "of ids under train"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LayoutError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or "train" not in values:
        raise LayoutError(f"{path} must hold a list of ids under train, and may hold one of test")
    for key in values:
        require_known(str(key), SIDES, what=f"{path}: side", error=LayoutError)
    train = _ids(path, "train", values["train"])
    test = _ids(path, "test", values["test"]) if "test" in values else None
    if both := sorted(train & (test or frozenset())):
        raise LayoutError(f"{path}: place {both[0]} stands under train and under test; keep one")
    return Split(name=name, train=train, test=test)


def _ids(path: Path, side: str, values: object) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise LayoutError(f"{path}: {side} must be a list of ids, such as [0001, 0002]")
    ids = [same_id(value) for value in values]
    for value, place in zip(values, ids, strict=True):
        if ids.count(place) > 1:
            raise LayoutError(f"{path}: place {value} stands twice under {side}; keep one")
    return frozenset(ids)
