"""Files that journals take, and words that stay within the room there is for them."""

from pathlib import Path

import pytest

from evaluation.figures.style import (
    COLUMN,
    DPI,
    TEXT,
    add_legend,
    charts,
    new_figure,
    save_figure,
    shortened,
)

NAME = "bicrossnet_repvit_m1_1_from_sample4geo_convnext_base_384_seed3"
SUBTITLE = f"{NAME} on SUES-200, trained on University-1652, full gallery"


def test_a_pdf_has_fonts_that_can_be_edited_and_no_date(tmp_path: Path) -> None:
    figure = new_figure(1, 1, title="a", subtitle="", dpi=DPI)
    content = save_figure(figure, tmp_path / "new" / "chart.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/FontFile2" in content
    assert b"/Type3" not in content and b"CreationDate" not in content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chart.pdf"]


def test_a_caption_loses_its_middle_where_there_is_no_room() -> None:
    assert shortened("place 0839", 1, size=7) == "place 0839"
    short = shortened("place Gebäude_Süd_Hörsaal_7", 1, size=7)
    assert short.startswith("place") and short.endswith("_7") and "…" in short


@pytest.mark.parametrize("width", [COLUMN, TEXT])
def test_a_headline_stays_within_its_figure_and_above_what_it_is_about(width: float) -> None:
    title = f"{NAME}: satellite to drone"
    figure = new_figure(width, 1, title=title, subtitle=SUBTITLE, dpi=DPI)
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x1 <= figure.bbox.x1 and extent.y1 <= figure.bbox.y1
        assert extent.y0 >= figure.dpi


@pytest.mark.parametrize(
    ("count", "width", "columns"), [(1, COLUMN, 1), (2, COLUMN, 1), (3, TEXT, 2)]
)
def test_few_charts_fit_one_column_and_more_the_whole_text(
    count: int, width: float, columns: int
) -> None:
    figure, all_axes = charts([f"chart {n}" for n in range(count)], title="", subtitle=SUBTITLE)
    assert figure.get_figwidth() == width
    assert len(figure.axes) == count
    assert len({round(axes.get_position().x0, 6) for axes in all_axes}) == columns


def test_a_legend_of_many_long_names_stands_below_the_charts() -> None:
    labels = [f"{NAME}_{number}" for number in range(12)]
    figure, (axes,) = charts(["recall@1"], title="Title", subtitle=SUBTITLE, legend=labels)
    handles = [axes.plot([0, 1], [0, number])[0] for number in range(12)]
    add_legend(figure, handles, labels)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.y1 <= axes.get_window_extent().y0 and box.x1 <= figure.bbox.x1
    assert axes.get_window_extent().height > figure.dpi, "there is room left for the chart"
    ends = [text.get_text()[-3:] for text in legend.get_texts()]
    assert ends == [label[-3:] for label in labels]
