"""The world on disk: exact folders, the same bytes every time, and nothing of anybody else's."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from data_shards.config import SynthConfig
from data_shards.errors import LayoutError
from data_shards.synth import world
from data_shards.synth.world import BENCH, WorldSummary, write_world

SMALL = SynthConfig(
    out=Path("unset"), places=2, test_places=1, distractors=1, views=3, image_size=32, workers=1
)


def silent(done: int, total: int, **facts: float) -> None:
    pass


def write(out: Path, **changes: object) -> WorldSummary:
    return write_world(replace(SMALL, out=out, **changes), progress=silent)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@dataclass(frozen=True)
class Written:
    out: Path
    summary: WorldSummary
    progress: list[tuple[int, int]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A small world, and what was told while it was written."""
    out, told = tmp_path_factory.mktemp("worlds") / "small", list[tuple[int, int]]()
    summary = write_world(
        replace(SMALL, out=out), progress=lambda done, total, **facts: told.append((done, total))
    )
    return Written(out, summary, told)


@pytest.fixture(scope="module")
def small(written: Written) -> Path:
    """The small world; for reading only."""
    return written.out


def test_folders_are_those_of_university1652(small: Path) -> None:
    views = [f"image-{view:02d}.jpeg" for view in (1, 2, 3)]
    expected = {"world.json"}
    for place in ("0001", "0002"):
        expected |= {f"train/drone/{place}/{name}" for name in views}
        expected.add(f"train/satellite/{place}/{place}.jpg")
    for place, parts in {"5001": ("query", "gallery"), "5002": ("gallery",)}.items():
        for part in parts:
            expected |= {f"test/{part}_drone/{place}/{name}" for name in views}
            expected.add(f"test/{part}_satellite/{place}/{place}.jpg")
    assert set(digests(small)) == expected


def test_query_and_gallery_hold_the_same_files(small: Path) -> None:
    for view, name in (("drone", "image-02.jpeg"), ("satellite", "5001.jpg")):
        query, gallery = (
            small / f"test/{part}_{view}/5001/{name}" for part in ("query", "gallery")
        )
        assert query.samefile(gallery)


def test_a_file_system_without_links_gets_copies(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write(tmp_path / "copied")
    assert digests(tmp_path / "copied") == digests(small)


def test_bytes_do_not_depend_on_the_number_of_workers(small: Path, tmp_path: Path) -> None:
    write(tmp_path / "parallel", workers=2)
    assert digests(tmp_path / "parallel") == digests(small)


def test_another_seed_gives_another_world(small: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", seed=1)
    mine, other = digests(small), digests(tmp_path / "other")
    assert mine.keys() == other.keys()
    assert not [name for name in mine if mine[name] == other[name]]


def test_a_place_stays_the_same_when_places_are_added(small: Path, tmp_path: Path) -> None:
    write(tmp_path / "larger", places=3, test_places=2, distractors=0)
    larger = digests(tmp_path / "larger")
    same = {name: digest for name, digest in digests(small).items() if name != "world.json"}
    assert same.items() <= larger.items()


def test_summary_and_progress_count_images_and_speed(written: Written) -> None:
    summary = written.summary
    assert (summary.num_train_places, summary.num_test_places, summary.num_distractors) == (2, 1, 1)
    assert (summary.num_images, summary.num_rendered) == (20, 16)
    assert summary.images_per_second == pytest.approx(16 / summary.seconds)
    assert written.progress == [(0, 16), (4, 16), (8, 16), (12, 16), (16, 16)]


def test_description_holds_every_parameter_and_the_generator(small: Path) -> None:
    facts = json.loads((small / "world.json").read_text())
    assert facts["generator_version"] == world.GENERATOR_VERSION
    assert facts | {"places": 2, "views": 3, "image_size": 32, "seed": 0} == facts


def test_a_whole_world_is_left_alone(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    summary = write(small)
    assert summary.num_rendered == 0
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_lost_files_are_rendered_again(small: Path, tmp_path: Path) -> None:
    out, whole = Path(shutil.copytree(small, tmp_path / "world")), digests(small)
    (out / "train/drone/0002/image-02.jpeg").unlink()
    assert write(out).num_rendered == 4
    assert digests(out) == whole


def test_an_interrupted_world_has_no_name_and_is_resumed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, render_place = tmp_path / "world", world.render_place

    def dies_at_the_third(root: Path, place: object, **settings: object) -> int:
        if getattr(place, "place_id", "") == "5001":
            raise KeyboardInterrupt
        return render_place(root, place, **settings)

    monkeypatch.setattr(world, "render_place", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write(out)
    assert not out.exists()
    monkeypatch.setattr(world, "render_place", render_place)
    assert write(out).num_rendered == 8
    assert digests(out) == digests(small)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_full_disk_is_one_sentence_and_leaves_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(LayoutError, match="No space left on device; free some space"):
        write(tmp_path / "world")
    assert not (tmp_path / "world").exists()


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LayoutError, match="cannot write"):
        write(tmp_path / "file" / "world")


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LayoutError, match="no synthetic world; choose another folder"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_world_of_other_settings_is_refused(small: Path) -> None:
    with pytest.raises(LayoutError, match="other settings"):
        write(small, seed=7)


def test_an_empty_folder_is_welcome(small: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert digests(tmp_path / "empty") == digests(small)


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    summary = write(tmp_path / "world", dry_run=True)
    assert (summary.num_images, summary.num_rendered) == (20, 0)
    assert not list(tmp_path.iterdir())


def test_an_unknown_layout_names_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="did you mean 'university1652'.*known: university1652"):
        write(tmp_path / "world", layout="university-1652")


def test_nothing_unfinished_stays_in_a_world(small: Path) -> None:
    assert not (small / BENCH).exists()
