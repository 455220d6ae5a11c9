"""Figures draw what they are given; how they look is for eyes."""

import json
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from evaluation.figures.charts import recall_bars
from evaluation.figures.curves import read_curves, training_curves
from evaluation.figures.pictures import Picture, retrieval_panel
from evaluation.figures.style import RIGHT, WRONG, save_figure

GREY = np.full((16, 16, 3), 128, dtype=np.uint8)


def test_a_panel_is_written_under_its_name(tmp_path: Path) -> None:
    query = Picture(pixels=GREY, edge=RIGHT, caption="place 0\nfirst right: 1")
    hit = Picture(pixels=GREY, edge=WRONG, caption="place 1\nsimilarity 0.50")
    figure = retrieval_panel([[query, hit, hit], [query, hit]], title="newborn", subtitle="")
    edges = [to_hex(axes.spines["left"].get_edgecolor()) for axes in figure.axes if axes.axison]
    assert (edges.count(RIGHT), edges.count(WRONG)) == (2, 3)
    with Image.open(save_figure(figure, tmp_path / "figures" / "panel.png")) as image:
        assert image.width > 500
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["panel.png"]


def test_curves_show_recall_first_and_every_term_but_no_total() -> None:
    curve = [(10.0, 2.0), (20.0, 1.0)]
    runs = {
        "alone": {"train/info_nce": curve, "train/total": curve, "probe/d2s/recall_at_1": curve},
        "distilled": {"train/logit_distillation": curve, "train/learning_rate": curve},
    }
    figure = training_curves(runs, title="How they learned", subtitle="")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0].startswith("drone to satellite")
    assert titles[1:] == ["info_nce", "logit_distillation"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["alone", "distilled"]


def test_bars_have_one_chart_per_direction() -> None:
    models = {"alone": {"d2s": 0.4, "s2d": 0.3}, "distilled": {"d2s": 0.5, "s2d": 0.9}}
    figure = recall_bars(models, chance={"d2s": 0.1, "s2d": 0.1}, title="Recall", subtitle="")
    assert [len(axes.patches) for axes in figure.axes] == [2, 2]


def test_a_later_line_of_the_spool_wins(tmp_path: Path) -> None:
    lines = [
        {"step": 10, "metrics": {"a": 1.0}},
        {"step": 20, "metrics": {"a": 2.0, "b": 5.0}},
        {"step": 10, "metrics": {"a": 3.0}},
    ]
    spool = tmp_path / "metrics.jsonl"
    spool.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curves(spool) == {"a": [(10, 3.0), (20, 2.0)], "b": [(20, 5.0)]}
