"""Files that journals take, and words that stay within the room there is for them."""

from pathlib import Path

import pytest

from evaluation.figures.canvas import COLUMN, EDGE, TEXT, Headline, blank, save_figure, write
from evaluation.figures.grid import add_legend, charts
from evaluation.figures.lettering import shortened, text_width, wrapped

NAME = "bicrossnet_repvit_m1_1_from_sample4geo_convnext_base_384_seed3"
SUBTITLE = f"{NAME} on SUES-200, trained on University-1652, full gallery"


def test_a_pdf_has_fonts_that_can_be_edited_and_no_date(tmp_path: Path) -> None:
    figure = blank(1, 1)
    write(figure, 0.1, 0.5, "a")
    content = save_figure(figure, tmp_path / "new" / "chart.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/FontFile2" in content
    assert b"/Type3" not in content and b"CreationDate" not in content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chart.pdf"]


def test_lines_break_at_spaces_and_a_long_name_between_its_parts() -> None:
    assert wrapped("a b", 3, size=7) == ["a b"]
    assert wrapped("", 3, size=7) == [""]
    lines = wrapped(SUBTITLE, 2, size=7)
    assert " ".join(lines).replace("_ ", "_") == SUBTITLE
    assert all(text_width(line, size=7) <= 2 for line in lines)
    assert len("".join(wrapped("x" * 200, 1, size=7))) == 200


def test_a_caption_loses_its_middle_where_there_is_no_room() -> None:
    assert shortened("place 0839", 1, size=7) == "place 0839"
    short = shortened("place Gebäude_Süd_Hörsaal_7", 1, size=7)
    assert short.startswith("place") and short.endswith("_7") and "…" in short
    assert text_width(short, size=7) <= 1


@pytest.mark.parametrize("width", [COLUMN, TEXT])
def test_a_headline_stays_within_its_figure_and_its_height(width: float) -> None:
    head = Headline(title=f"{NAME}: satellite to drone", subtitle=SUBTITLE, width=width)
    figure = blank(width, head.height)
    head.write(figure)
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x1 <= (width - EDGE / 2) * figure.dpi and extent.y0 >= 0
        assert extent.y1 <= head.height * figure.dpi


@pytest.mark.parametrize(
    ("count", "width", "columns"), [(1, COLUMN, 1), (2, COLUMN, 1), (4, TEXT, 2)]
)
def test_few_charts_fit_one_column_and_more_the_whole_text(
    count: int, width: float, columns: int
) -> None:
    figure, all_axes = charts([f"chart {n}" for n in range(count)], title="", subtitle=SUBTITLE)
    assert figure.get_figwidth() == width
    assert len({round(axes.get_position().x0, 6) for axes in all_axes}) == columns


def test_a_legend_of_many_long_names_stands_between_headline_and_charts() -> None:
    labels = [f"{NAME}_{number}" for number in range(12)]
    figure, (axes,) = charts(["recall@1"], title="Title", subtitle=SUBTITLE, legend=labels)
    handles = [axes.plot([0, 1], [0, number])[0] for number in range(12)]
    add_legend(figure, handles, labels)
    (legend,) = figure.legends
    box, title = legend.get_window_extent(), axes.title.get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1 and box.x1 <= figure.bbox.x1
    assert title.y1 <= box.y0
    assert box.y1 <= min(text.get_window_extent().y0 for text in figure.texts)
    ends = [text.get_text()[-3:] for text in legend.get_texts()]
    assert ends == [label[-3:] for label in labels]
