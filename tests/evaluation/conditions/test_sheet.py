"""The contact sheet shows every condition of every image that was asked for."""

from pathlib import Path

import pytest
from PIL import Image

from data_shards.shards import ShardSet
from evaluation.conditions import CONDITIONS
from evaluation.conditions.sheet import SheetConfig, draw, draw_conditions, main, photographs_of


def test_every_photograph_is_shown_clean_and_under_each_condition(shards: ShardSet) -> None:
    rows = shards.images.where(role=2, view=1)
    photographs = photographs_of(shards, rows, count=2, image_size=32)
    assert {pixels.shape for pixels in photographs.values()} == {(32, 32, 3)}
    figure = draw_conditions(photographs, title="a", subtitle="b")
    assert all(len(axes.images) == 1 for axes in figure.axes)
    captions = [axes.get_xlabel() for axes in figure.axes]
    first, second = photographs
    assert captions == [first, *CONDITIONS, second, *CONDITIONS]
    assert first.split("/")[0] != second.split("/")[0]


def test_a_sheet_is_drawn_from_a_shard_folder(shards: ShardSet, tmp_path: Path) -> None:
    out = tmp_path / "figures" / "sheet.png"
    assert draw(SheetConfig(shards=shards.folder, out=out, images=1, image_size=32)) == 0
    with Image.open(out) as image:
        assert image.width > 500
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sheet.unheard"], "sheet.unheard cannot be drawn"),
        (["sheet.png", "--images", "0"], "--images (0) must be at least 1"),
        (["sheet.png", "--image-sise", "8"], "did you mean '--image-size'"),
    ],
)
def test_a_mistake_is_one_sentence(
    shards: ShardSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(shards.folder), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
