"""Writing after a crash, on a full disk, as somebody else, and after the raw files changed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_shards.errors import ShardError, SkyDistillError
from data_shards.layouts import read_layout
from data_shards.lock import only_writer
from data_shards.manifest import ShardSummary
from data_shards.packing.notes import SOURCE_NAME
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards
from data_shards.progress import Progress
from data_shards.shards import ShardSet

ORIGINAL = Profile()
SMALL = Profile(image_size=256, quality=80)


def silent(done: int, total: int, **facts: float) -> None:
    """Say nothing."""


def write(
    raw: Path,
    out: Path,
    *,
    profile: Profile = ORIGINAL,
    progress: Progress = silent,
    workers: int = 2,
) -> ShardSummary:
    dataset = read_layout(raw)
    return write_shards(dataset, out, profile=profile, workers=workers, progress=progress)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SOURCE_NAME}


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.tar")}


@pytest.fixture
def raw(tmp_path: Path, make_raw: Callable[[Path], Path]) -> Path:
    return make_raw(tmp_path / "raw")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that several tars of each kind are written."""
    monkeypatch.setattr("data_shards.packing.shard_layout.PLACES_PER_SHARD", 3)


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from data_shards.packing import shard_layout
from data_shards.layouts import read_layout
from data_shards.packing.pack import GrowingTar
from data_shards.packing.stored_image import Profile
from data_shards.packing.write import write_shards

shard_layout.PLACES_PER_SHARD = 3
end = GrowingTar.end

def end_or_die(tar):
    partial = tar.path.parent
    if tar.name == "train-drone-000003.tar":
        while not (partial / "train-drone-000001.made").exists():
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    end(tar)

GrowingTar.end = end_or_die
raw, out = map(Path, sys.argv[1:])
write_shards(read_layout(raw), out, profile=Profile(), workers=2, progress=lambda *_, **__: None)
"""


def kill_in_the_middle(raw: Path, out: Path) -> None:
    """Write in another process that is killed before its fifth tar is finished."""
    words = [sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(raw), str(out)]
    ended = subprocess.run(words, cwd=Path(__file__).parents[3], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_a_killed_run_is_continued_from_its_finished_tars(raw: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "shards", tmp_path / "shards.partial"
    kill_in_the_middle(raw, out)
    assert not out.exists()
    finished = {note.stem + ".tar" for note in partial.glob("*.made")}
    assert {"train-satellite-000000.tar", "train-drone-000001.tar"} <= finished
    assert "train-drone-000003.tar" not in finished
    assert (partial / "train-drone-000003.tar").exists()
    before = inodes(partial)
    done = write(raw, out)
    assert done.tars_kept == len(finished)
    assert done.tars_kept + done.tars_written == len(done.manifest.shards)
    assert all(inodes(out)[name] == before[name] for name in finished)
    assert not partial.exists()
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    assert not list(out.glob("*.made"))


def test_a_killed_run_whose_files_changed_since_makes_those_tars_again(raw, tmp_path) -> None:
    out = tmp_path / "shards"
    kill_in_the_middle(raw, out)
    finished = len(list((tmp_path / "shards.partial").glob("*.made")))
    recolour(raw / "train/drone/0001/image-02.jpeg")
    for view in ("satellite", "drone"):
        shutil.copytree(raw / f"train/{view}/0010", raw / f"train/{view}/0011")
    assert write(raw, out).tars_kept == finished - len({"train-satellite", "train-drone-000000"})
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["tar", "index", "made"])
def test_a_finished_tar_that_was_damaged_since_is_made_again(raw, tmp_path, damage) -> None:
    out, partial = tmp_path / "shards", tmp_path / "shards.partial"
    kill_in_the_middle(raw, out)
    os.truncate(partial / f"train-drone-000000.{damage}", 40)
    finished = len(list(partial.glob("*.made")))
    assert write(raw, out).tars_kept == finished - 1
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


def recolour(path: Path) -> None:
    """Overwrite an image by one of the same length, as an editor that keeps the date would."""
    before = path.stat()
    with Image.open(path) as image:
        mirrored = np.asarray(image)[:, ::-1]
    Image.fromarray(mirrored).save(path, quality=90)
    content_now = path.read_bytes()
    path.write_bytes(content_now + bytes(max(0, before.st_size - len(content_now))))


def test_only_tars_whose_files_changed_are_made_again(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    first = write(raw, out)
    before, old = inodes(out), first.manifest
    mapped = ShardSet.open(out)
    row = mapped.images.key.tolist().index("0001/drone/image-02")
    bytes_before = bytes(mapped.read(row))
    recolour(raw / "train/drone/0001/image-02.jpeg")
    done = write(raw, out)
    assert (done.was_complete, done.tars_written) == (False, 1)
    assert done.tars_kept == len(old.shards) - 1
    changed = {name for name, inode in inodes(out).items() if before[name] != inode}
    assert changed == {"train-drone-000000.tar"}
    assert done.manifest.fingerprint != old.fingerprint
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    assert bytes(mapped.read(row)) == bytes_before
    with pytest.raises(ShardError, match="brought up to date while it was being read; start again"):
        mapped.read(mapped.images.key.tolist().index("0009/drone/image-02"))
    assert bytes(ShardSet.open(out).read(row)) != bytes_before
    assert write(raw, out).was_complete
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "shards", "fresh"}


def add_a_place(raw: Path) -> None:
    for view in ("satellite", "drone"):
        shutil.copytree(raw / f"train/{view}/0010", raw / f"train/{view}/0011")


def remove_a_place(raw: Path) -> None:
    for view in ("satellite", "drone"):
        shutil.rmtree(raw / f"train/{view}/0010")


def rename_an_image(raw: Path) -> None:
    path = raw / "train/drone/0010/image-03.jpeg"
    path.rename(path.with_name("image-3b.jpeg"))


@pytest.mark.parametrize("change", [add_a_place, remove_a_place, rename_an_image])
@pytest.mark.parametrize("profile", [ORIGINAL, SMALL], ids=["original", "resized"])
def test_what_is_brought_up_to_date_is_as_if_written_afresh(
    raw: Path, tmp_path: Path, change, profile
) -> None:
    out = tmp_path / "shards"
    write(raw, out, profile=profile)
    change(raw)
    done = write(raw, out, profile=profile)
    assert done.tars_kept > 0 < done.tars_written
    write(raw, tmp_path / "fresh", profile=profile)
    assert content(out) == content(tmp_path / "fresh")


def test_a_file_changed_behind_its_date_is_noticed(raw: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "shards", raw / "train/drone/0001/image-02.jpeg"
    write(raw, out)
    before = path.stat()
    content_now = bytearray(path.read_bytes())
    content_now[14] ^= 1  # the density that the file tells, so that it still decodes
    path.write_bytes(content_now)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert not write(raw, out).was_complete


def test_new_coordinates_change_the_manifest_and_no_tar(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write(raw, out)
    before = inodes(out)
    (tmp_path / "places.csv").write_text("place,latitude,longitude\n0001,46.5,6.6\n")
    dataset = read_layout(raw, coordinates=tmp_path / "places.csv")
    done = write_shards(dataset, out, profile=ORIGINAL, workers=1, progress=silent)
    assert (done.was_complete, done.tars_written) == (False, 0)
    assert done.manifest.coordinates == {"0001": (46.5, 6.6)}
    assert inodes(out) == before


def test_without_exchange_and_hard_links_the_result_is_the_same(raw, tmp_path, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("data_shards.packing.write._exchange", lambda *_: False)
    monkeypatch.setattr("os.link", refused)
    out = tmp_path / "shards"
    write(raw, out)
    add_a_place(raw)
    assert write(raw, out).tars_kept > 0
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "shards", "fresh"}


def test_a_crash_between_two_renames_is_mended(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    write(raw, out)
    before = content(out)
    out.rename(tmp_path / "shards.replaced")
    assert write(raw, out).was_complete
    assert content(out) == before
    shutil.copytree(out, tmp_path / "shards.replaced")
    assert write(raw, out).was_complete
    assert not (tmp_path / "shards.replaced").exists()


def test_what_a_run_killed_at_its_very_end_leaves_is_removed(raw: Path, tmp_path: Path) -> None:
    """The old folder stands aside when both have changed places."""
    out, left_over = tmp_path / "shards", tmp_path / "shards.partial"
    write(raw, out)
    shutil.copytree(out, left_over)
    assert write(raw, out).was_complete
    assert not left_over.exists()


def test_shards_written_meanwhile_are_not_replaced(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_raw: Callable[[Path], Path]
) -> None:
    out, other = tmp_path / "shards", make_raw(tmp_path / "other")
    (other / "train/drone/0001/image-05.jpeg").unlink()

    @contextmanager
    def after_another(folder: Path, *, taken: SkyDistillError) -> Iterator[None]:
        monkeypatch.setattr("data_shards.packing.write.only_writer", only_writer)
        write(other, out)
        with only_writer(folder, taken=taken):
            yield

    monkeypatch.setattr("data_shards.packing.write.only_writer", after_another)
    with pytest.raises(ShardError, match="was written by another process meanwhile; run this"):
        write(raw, out)
    assert len(ShardSet.open(out).images) == 89
    assert not (tmp_path / "shards.partial").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
    if shutil.which("mount") is None:
        pytest.skip("no mount command, so no small disk")
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_the_run_continued(raw, tmp_path, small_disk: Path) -> None:
    out = small_disk / "shards"
    with pytest.raises(
        ShardError, match=r"shards could not be written \(No space left.*free space.*finished tar"
    ):
        write(raw, out, workers=1)  # one tar after the other, so that some are finished
    assert not out.exists()
    left = inodes(small_disk / "shards.partial")
    assert left
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    done = write(raw, out)
    assert done.tars_kept == len(left)
    assert left.items() <= inodes(out).items()
    write(raw, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


def as_nobody(work: Callable[[], None]) -> str:
    """Do something as another user in a process of its own, and return what went wrong."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            work()
        except BaseException as error:  # noqa: BLE001
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as told:
        return told.read().decode()


@pytest.fixture
def public(raw: Path, tmp_path: Path) -> Path:
    """Let everybody look into the test's folders."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(0o755)
    return raw


def test_a_folder_that_cannot_be_written_to_is_told(public: Path, tmp_path: Path) -> None:
    told = as_nobody(lambda: write(public, tmp_path / "shards") and None)
    assert told.startswith("ShardError: ")
    assert (
        "shards could not be written (Permission denied); free space, make the folder above it"
        in told
    )
    assert not list(tmp_path.glob("shards*"))
    (tmp_path / "closed").mkdir(mode=0o700)
    told = as_nobody(lambda: write(public, tmp_path / "closed/shards") and None)
    assert told.startswith("ShardError: ")
    assert (
        "closed/shards could not be written (Permission denied); free space, make the folder"
        in told
    )


def test_an_image_that_cannot_be_read_is_told(public: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    path = public / "train/drone/0004/image-03.jpeg"
    path.chmod(0o000)
    told = as_nobody(lambda: write(public, tmp_path / "out/shards") and None)
    assert told.startswith(f"UnreadableError: {path} cannot be read (Permission denied); restore")
    assert not (tmp_path / "out/shards").exists()


def test_finished_shards_of_somebody_else_are_accepted(public: Path, tmp_path: Path) -> None:
    write(public, tmp_path / "shards")
    answers = []

    def again() -> None:
        answers.append(write(public, tmp_path / "shards"))
        raise SystemExit(str(answers[0].was_complete))

    assert as_nobody(again) == "SystemExit: True"
