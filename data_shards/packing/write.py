"""Raw folders to a shard folder: written whole or not at all, continued, and brought up to date.

The same input gives the same bytes, whether they are written at once, after a crash, or in place of
older ones of which only the changed tars are made again.
"""

import ctypes
import errno
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from data_shards.errors import ShardError, counted
from data_shards.index import check_tar, checked_content
from data_shards.layouts.coordinates import Coordinates
from data_shards.lock import only_writer
from data_shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardSummary,
    content_digest,
    count_groups,
    read_manifest,
    write_manifest,
)
from data_shards.packing.image_facts import total
from data_shards.packing.notes import (
    NOTE_SUFFIX,
    SourceNotes,
    finished_tars,
    inputs_of,
    linked_tars,
    read_source_notes,
    source_folder,
    write_source_notes,
    write_tar_note,
)
from data_shards.packing.pack import PackedTar, pack_tars
from data_shards.packing.shard_layout import TarContent, shard_layout
from data_shards.packing.stored_image import Profile, UnreadableError, chosen
from data_shards.progress import Progress, Tally
from data_shards.schema import RawDataset
from data_shards.usable_cpus import usable_cpus

AT_FDCWD = -100
RENAME_EXCHANGE = 2

REPLACED_SUFFIX = ".replaced"


def atomic_replace(new: Path, out: Path) -> None:
    """Move the folder `new` to `out`, and remove the folder that stood there.

    Where the system can exchange two names in one step, `out` is at every moment the old folder or
    the new one. Elsewhere it is missing between two renames; `recover` mends what a crash leaves.
    """
    sync_folder(new)
    if not out.exists():
        new.rename(out)
    elif _exchange(new, out):
        shutil.rmtree(new)
    else:
        old = replaced(out)
        out.rename(old)
        new.rename(out)
        shutil.rmtree(old)
    sync_folder(out.parent)


def recover(out: Path) -> None:
    """Put back, or remove, the older folder that a crash between two renames left aside."""
    old = replaced(out)
    if out.exists():
        shutil.rmtree(old)
    else:
        old.rename(out)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replaced(out: Path) -> Path:
    """Where the older folder stands between two renames."""
    return out.with_name(out.name + REPLACED_SUFFIX)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where system or file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return True
    failure = ctypes.get_errno()
    if failure in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(failure, os.strerror(failure), str(other))


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is to be written, and where."""

    dataset: RawDataset
    out: Path
    profile: Profile
    workers: int
    progress: Progress
    is_decoded: bool

    @cached_property
    def tars(self) -> list[TarContent]:
        return shard_layout(self.dataset.records)

    @cached_property
    def notes(self) -> SourceNotes:
        """Raw folder and inputs of every tar."""
        inputs = {
            tar.name: inputs_of(tar, self.profile, is_decoded=self.is_decoded) for tar in self.tars
        }
        source, compared = source_folder(self.dataset.records), self.dataset.compared
        return SourceNotes(source=source, inputs=inputs, compared=compared)

    def notes_with(self, packed: Sequence[PackedTar]) -> SourceNotes:
        """Return the notes with what is known of the image files."""
        return replace(self.notes, facts={tar.entry.name: tar.facts for tar in packed})

    def coordinates(self, notes: SourceNotes) -> Coordinates:
        """Place to where it lies, as a table says or else its photographs."""
        return total(notes.facts.values()).coordinates | self.dataset.coordinates

    @property
    def name(self) -> str:
        """What was said, else what the shards there are called, else as the raw folder."""
        old = read_manifest(self.out).name if (self.out / MANIFEST_NAME).is_file() else ""
        return self.dataset.name or old or self.dataset.folder or Path(self.notes.source).name

    @cached_property
    def head(self) -> Manifest:
        """The manifest before anything is known of the bytes."""
        return Manifest(
            layout=self.dataset.layout,
            name=self.name,
            places=tuple(self.number),
            counts=count_groups(
                Counter((int(r.roles), int(r.view), r.place) for r in self.dataset.records)
            ),
            shards=(),
            content_sha256="",
            profile=self.profile.facts,
            split=self.dataset.split,
            deviations=self.dataset.deviations,
            coordinates=self.dataset.coordinates,
        )

    @cached_property
    def number(self) -> dict[str, int]:
        """Place to its number in the manifest."""
        places = sorted({record.place for record in self.dataset.records})
        return {place: index for index, place in enumerate(places)}

    @property
    def partial(self) -> Path:
        """Where the shards stand until they are whole."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def taken(self) -> ShardError:
        return ShardError(
            f"{self.partial} is being written by another process; wait until it is done"
        )

    def pack(
        self, tars: Sequence[TarContent], folder: Path | None, *, before: int
    ) -> Iterator[PackedTar]:
        """Write tars into `folder`, or only hash them; `before` images were there already."""
        total = before + sum(len(tar.records) for tar in tars)

        def settled(packed: PackedTar) -> None:
            if folder is not None:
                inputs = self.notes.inputs[packed.entry.name]
                write_tar_note(folder, packed, inputs=inputs, profile=self.profile)

        return pack_tars(
            tars,
            folder,
            profile=self.profile,
            number=self.number,
            is_decoded=self.is_decoded,
            workers=self.workers,
            count=Tally(self.progress, total, done=before).add,
            settled=settled,
        )


def write_shards(
    dataset: RawDataset,
    out: Path,
    *,
    profile: Profile,
    workers: int,
    progress: Progress,
    is_decoded: bool = True,
) -> ShardSummary:
    """Write tars, indexes and manifest into `out`, which appears only when it is whole.

    Where `out` holds shards of the same raw folder, only the tars whose files changed are made
    again, and the folder is exchanged in one step. What a failed or killed run has finished waits
    beside `out` and is not made again.

    Args:
        dataset: what a layout found.
        out: folder to write.
        profile: what becomes of the image files.
        workers: threads that read, resize and hash; 0 means one per processor.
        progress: told of every few images.
        is_decoded: whether every image is decoded once, those of kept tars apart.

    Raises:
        UnreadableError: images are unreadable, all that are told.
        ShardError: the disk is full, or `out` holds something else.
    """
    out = Path(os.path.realpath(out))
    task = Task(dataset, out, profile, workers or usable_cpus(), progress, is_decoded)
    try:
        if replaced(out).exists():
            with only_writer(task.partial, taken=task.taken):
                recover(out)
        is_there = out.exists() and not (out.is_dir() and not os.listdir(out))
        return _bring_up_to_date(task) if is_there else _write(task, old=None, notes=SourceNotes())
    except (OSError, ShardError) as error:
        told = str(error)
        if isinstance(error, OSError):
            told = (
                f"{out} could not be written ({error.strerror}); free space, make the folder above "
                "it writable, or choose another one"
            )
        finished = 0
        with suppress(OSError):
            finished = sum(name.endswith(NOTE_SUFFIX) for name in os.listdir(task.partial))
        if finished:
            tars = counted(finished, "finished tar")
            told += f" ({tars} in {task.partial} will be used by the next run)"
        if isinstance(error, UnreadableError):
            error.args = (told,)
            raise
        raise ShardError(told) from error


def _bring_up_to_date(task: Task) -> ShardSummary:
    """Leave alone, or replace, the shards that stand at `out`; refuse those of something else."""
    out = task.out
    if not (out / MANIFEST_NAME).is_file():
        raise ShardError(f"{out} exists and holds no shards; choose a new folder or remove it")
    old = read_manifest(out)
    for entry in old.shards:
        checked_content(out / entry.index_name, entry.index_sha256)
        check_tar(out / entry.name, entry.bytes)
    profiles = (
        " ".join(f"{name}={value}" for name, value in sorted(profile.items()))
        for profile in (chosen(old.profile), task.profile.choice)
    )
    layouts, splits = (old.layout, task.head.layout), (old.split, task.head.split)
    choices = {"layout": layouts, "split": splits, "profile": tuple(profiles)}
    if differing := {name: pair for name, pair in choices.items() if pair[0] != pair[1]}:
        told = "; ".join(f"{name} {old}, not {new}" for name, (old, new) in differing.items())
        raise ShardError(f"{out} holds shards of {told}: choose a new folder or remove it")
    notes = read_source_notes(out)
    if notes.source != task.notes.source:  # then all images are read, to see whether they are those
        made = list(task.pack(task.tars, None, before=0))
        if [packed.entry.sha256 for packed in made] != [entry.sha256 for entry in old.shards]:
            origin = f", made from {notes.source}" if notes.source else ""
            raise ShardError(
                f"{out} holds shards of other images{origin}; choose a new folder or remove it"
            )
        notes = task.notes_with(made)
        _remember(task, notes)
    same_head = replace(
        task.head,
        shards=old.shards,
        content_sha256=old.content_sha256,
        coordinates=task.coordinates(notes),
    )
    if notes.inputs != task.notes.inputs or replace(same_head, profile=old.profile) != old:
        return _write(task, old=old, notes=notes)
    if task.partial.is_dir():  # left by a killed run
        with suppress(OSError, ShardError), only_writer(task.partial, taken=task.taken):
            shutil.rmtree(task.partial)
    return ShardSummary(manifest=old, was_complete=True, tars_kept=len(old.shards))


def _remember(task: Task, notes: SourceNotes) -> None:
    """Note the raw folder, so that the next run need not read it."""
    try:
        write_source_notes(task.out, notes)
    except OSError as error:
        log.info("%s is right but cannot be written to (%s)", task.out, error.strerror)


def _write(task: Task, *, old: Manifest | None, notes: SourceNotes) -> ShardSummary:
    """Write what is not there yet beside `out`, then let it take the place of `out`."""
    with _folder_aside(task) as partial:
        if (read_manifest(task.out) if (task.out / MANIFEST_NAME).exists() else None) != old:
            raise ShardError(f"{task.out} was written by another process meanwhile; run this again")
        whole = finished_tars(
            partial, task.tars, notes=task.notes, profile=task.profile, number=task.number
        )
        _sweep(partial, whole)
        if old is not None and old.profile == task.profile.facts:
            same = [
                tar
                for tar in task.tars
                if tar.name not in whole
                and notes.inputs.get(tar.name) == task.notes.inputs[tar.name]
            ]
            whole |= linked_tars(
                task.out, partial, same, manifest=old, notes=notes, number=task.number
            )
        missing = [tar for tar in task.tars if tar.name not in whole]
        before = sum(packed.entry.images for packed in whole.values())
        for packed in task.pack(missing, partial, before=before):
            whole[packed.entry.name] = packed
        packed_tars = [whole[tar.name] for tar in task.tars]
        keys = [record.key for tar in task.tars for record in tar.records]
        notes = task.notes_with(packed_tars)
        manifest = replace(
            task.head,
            shards=tuple(packed.entry for packed in packed_tars),
            content_sha256=content_digest(keys, [packed.rows for packed in packed_tars]),
            coordinates=task.coordinates(notes),
        )
        if manifest == old:
            shutil.rmtree(partial)
            _remember(task, notes)
            return ShardSummary(manifest=old, was_complete=True, tars_kept=len(old.shards))
        write_manifest(partial, manifest)
        write_source_notes(partial, notes)
        for note in partial.glob(f"*{NOTE_SUFFIX}"):
            note.unlink()
        atomic_replace(partial, task.out)
    return ShardSummary(
        manifest=manifest,
        was_complete=False,
        tars_written=len(missing),
        tars_kept=len(whole) - len(missing),
    )


@contextmanager
def _folder_aside(task: Task) -> Iterator[Path]:
    """Yield a folder beside `out` that only this process writes; a failure keeps whole tars."""
    partial = task.partial
    with only_writer(partial, taken=task.taken):
        try:
            yield partial
        except BaseException:
            finished = {note.stem + ".tar" for note in partial.glob(f"*{NOTE_SUFFIX}")}
            _sweep(partial, finished)
            if not finished:
                partial.rmdir()
            raise


def _sweep(partial: Path, keep: "Mapping[str, object] | set[str]") -> None:
    """Remove all but the tars to keep, their indexes and their notes."""
    stems = {Path(name).stem for name in keep}
    for path in partial.iterdir():
        if path.stem not in stems or path.suffix not in (".tar", ".index", NOTE_SUFFIX):
            path.unlink()
