"""Files of one key from several folders: one record where their bytes are equal, else several.

A test image stands in the query and in the gallery folder; a SUES-200 satellite tile stands under
every height. Each is stored, described and cached once, with all of its roles.
"""

import errno
import hashlib
import os
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from data_shards.errors import LayoutError
from data_shards.layouts.folders import natural, refuse_two_spellings
from data_shards.schema import ImageRecord, RawDataset, View
from data_shards.usable_cpus import usable_cpus


def file_stamp(path: str | Path) -> tuple[int, int, int]:
    """Return size, time of the last change of the content, and that of the inode in nanoseconds.

    Equal stamps mean that nobody touched the file: no program sets the time of the inode back.
    Where a file system keeps coarse times, an edit within one tick that keeps the size is missed.

    Raises:
        OSError: there is no such file, or it is a pipe or device, which may never end.
    """
    stat = os.stat(path)
    if not S_ISREG(stat.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def read_plain_file(path: str | Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: it cannot be read, or it is a pipe or device, which may never end.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read()


READERS_PER_PROCESSOR = 4
"""Comparing waits for the disk more than it computes, on a network disk most of all."""

AT_A_TIME = 64

STAMP = struct.Struct("<qqq")

Pair = tuple[Path, Path]


class Comparisons:
    """Comparisons of files, left out where the last run made them and nobody touched a file since.

    University-1652 has 38,000 pairs of query and gallery files: to read them all takes minutes.
    """

    def __init__(self, known: str) -> None:
        self.known, self.made = known, ""

    def of(self, pairs: Sequence[Pair]) -> list[bool]:
        """Tell of every pair whether it is one image."""
        sha = hashlib.sha256()  # over names and stamps: equal means that no file was touched
        for path in (path for pair in pairs for path in pair):
            sha.update(os.fsencode(path.absolute()) + STAMP.pack(*file_stamp(path)))
        is_same = [True] * len(pairs)
        if sha.hexdigest() != self.known:
            # Some at a time, because a task costs more than a small file.
            chunks = [pairs[start : start + AT_A_TIME] for start in range(0, len(pairs), AT_A_TIME)]
            with ThreadPoolExecutor(READERS_PER_PROCESSOR * usable_cpus()) as pool:
                answers = pool.map(lambda chunk: [is_same_image(*pair) for pair in chunk], chunks)
                is_same = [answer for of_chunk in answers for answer in of_chunk]
        # Where some differ, they are few and this is rare: they are simply compared again.
        self.made = sha.hexdigest() if all(is_same) else ""
        return is_same


def by_role(record: ImageRecord) -> str:
    """Name an image beside another of its key after what it is for."""
    return f"{record.name}-{'-'.join(record.roles.words)}"


def joined(
    raw: Path,
    layout: str,
    found: Sequence[ImageRecord],
    *,
    compared: str,
    split: str = "folders",
    apart: Callable[[ImageRecord], str] = by_role,
    is_numbered: bool = True,
) -> RawDataset:
    """Return a data set of the images that a layout found, each of several folders once.

    Args:
        raw: where they were found.
        layout: its name.
        found: the images in the order of preference, see `merge_duplicates`.
        compared: `RawDataset.compared` of an earlier run.
        split: what decided which places train.
        apart: see `merge_duplicates`.
        is_numbered: whether images of a place and view count from 1: altitude by altitude, then as
            files are called. So an altitude is contiguous in a tar.

    Raises:
        LayoutError: a place is spelled in two ways, or two images have one name.
    """
    refuse_two_spellings(raw, (record.place for record in found))
    comparisons = Comparisons(compared)
    records = merge_duplicates(found, apart=apart, comparisons=comparisons)
    if is_numbered:
        records.sort(key=lambda record: (record.altitude_m or 0, natural(record.name)))
        counts = Counter[tuple[str, View]]()
        for at, record in enumerate(records):
            counts[record.place, record.view] += 1
            records[at] = replace(record, position=counts[record.place, record.view])
    return RawDataset(
        layout=layout,
        records=tuple(records),
        split=split,
        files=frozenset(record.path for record in found),
        compared=comparisons.made,
    )


def merge_duplicates(
    records: Sequence[ImageRecord],
    *,
    apart: Callable[[ImageRecord], str],
    comparisons: Comparisons,
) -> list[ImageRecord]:
    """Join records of one key whose files lie in different folders and hold the same bytes.

    Args:
        records: in the order of preference: the first of equal ones gives source and position.
        apart: the name of a record whose key is taken by other bytes.
        comparisons: compares the files.

    Raises:
        LayoutError: the name that sets a record apart is taken too.
    """
    keyed = [(record.key, record) for record in records]
    first: dict[str, ImageRecord] = {}
    pairs: list[Pair] = []
    for key, record in keyed:
        earlier = first.setdefault(key, record)
        if earlier is not record:
            pairs.append((earlier.source, record.source))
    is_same = iter(comparisons.of(pairs))
    merged: dict[str, ImageRecord] = {}
    for key, record in keyed:
        is_equal = first[key] is not record and next(is_same)
        if first[key] is not record and not is_equal:
            record = replace(record, name=apart(record))
            key = record.key
        taken = merged.get(key)
        if taken is None:
            merged[key] = record
        elif is_equal or is_same_image(taken.source, record.source):
            merged[key] = replace(taken, roles=taken.roles | record.roles)
        else:
            raise LayoutError(
                f"{record.source} and {taken.source} would share the key {key}; rename one"
            )
    return list(merged.values())


def is_same_image(one: Path, other: Path) -> bool:
    """Tell whether two files of different folders are one image, reading them only if they must be.

    Two files of one folder, such as `1.jpg` and `1.PNG`, are two images whatever they hold.
    """
    if os.path.dirname(one) == os.path.dirname(other):
        return False
    first, second = one.stat(), other.stat()
    if os.path.samestat(first, second):
        return True
    return first.st_size == second.st_size and one.read_bytes() == other.read_bytes()
