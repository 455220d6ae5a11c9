"""`skydistill compare --html`: one page without a network, as headless Chromium shows it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation.compare.conftest import make_report, sues_results

CHROMIUM = shutil.which("chromium")

SORT = """
<script>
const table = document.querySelector("#table table");
const buttons = [...table.querySelectorAll("button")];
const click = name => buttons.find(button => button.textContent === name).click();
const order = () => [...table.tBodies[0].rows].map(row => row.cells[0].dataset.value);
const found = {};
click("R@1"); found.down = order();
click("R@1"); found.up = order();
click("parameters"); found.parameters = order();
found.sorted = [...table.querySelectorAll("[aria-sort]")].map(head => head.textContent);
found.wide = document.documentElement.scrollWidth;
found.room = document.documentElement.clientWidth;
found.broken = [...document.images].filter(image => !image.naturalWidth).length;
document.body.dataset.found = JSON.stringify(found);
</script>
"""


def shown(page: Path, *, width: int) -> dict:
    """Return what the script above finds in a page of some width.

    A window of Chromium is at least 500 pixels wide; a frame in it is as wide as it is told.
    """
    text = page.read_text().replace("</body>", f"{SORT}</body>")
    (page.parent / "sorted.html").write_text(text)
    outer = page.parent / "outer.html"
    outer.write_text(
        f'<iframe src="sorted.html" style="width:{width}px;height:800px;border:0"></iframe><script>'
        "onload = () => document.body.append(frames[0].document.body.dataset.found)</script>"
    )
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += [
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}",
    ]
    words += ["--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run(
        [*words, outer.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    return json.loads(re.findall(r"\{.*\}", done.stdout)[-1])


@pytest.fixture
def page(compare, run_folder, tmp_path) -> Path:
    """Two seeds of one model and one of another on SUES-200, with curves and a panel."""
    for name, seed, recall, parameters in (
        ("small", 0, 0.80, 5_000_000),
        ("small", 1, 0.82, 5_000_000),
        ("large", 0, 0.90, 90_000_000),
    ):
        report = make_report(
            f"{name}_seed{seed}",
            seed=seed,
            dataset="sues200",
            results=sues_results(recall),
            parameters=parameters,
        )
        folder = run_folder(f"runs/{name}{seed}", report)
    lines = [{"step": step, "metrics": {"train/triplet": 1 / step}} for step in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = folder / "evaluations/university1652/figures"
    drawn.mkdir()
    Image.new("RGB", (1500, 1200)).save(drawn / "retrieval_d2s.png")
    (folder.parent / "small0" / "metrics.jsonl").write_text('{"step": 1, "metr')
    file = tmp_path / "pages" / "comparison.html"
    told = compare(folder.parent, "--html", file)
    assert told.code == 0 and f"comparison: {file}" in told.err
    assert "curves of small" in told.err and "cannot be read" in told.err
    return file


def test_the_page_holds_everything_and_fetches_nothing(page) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "url(" not in text and "@import" not in text and "fetch(" not in text
    for title in ("SUES-200, zero-shot: trained on University-1652", "Accuracy over altitude"):
        assert title in text
    for height in (150, 200, 250, 300):
        assert f'alt="D2S {height} m: accuracy against operations"' in text
    assert 'alt="How the models learned"' in text and "image/jpeg" in text
    assert "shards fingerprint</dt><dd>ffffffffffff" in text and "2 runs" in text
    assert "PFED / MobileGeo (arXiv 2510.22582), Tables I to III (transcribed)" in text
    assert "NVIDIA AGX Orin" in text, "published costs stand beside"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; make test installs it")
def test_a_click_sorts_and_a_phone_sees_the_whole_width(page) -> None:
    for width in (390, 1280):
        found = shown(page, width=width)
        assert found["wide"] <= found["room"] == width, "nothing runs over the right edge"
        assert found["broken"] == 0, "every picture is drawn"
    published = {"PFED [1]", "MEAN [1]", "DAC [1]", "Sample4Geo [1]", "MCCG [1]"}
    assert {*found["down"]} == published | {"small", "large"}
    assert found["down"][0] == "large" and found["down"][-1] == "MCCG [1]"
    assert found["up"] == found["down"][::-1]
    assert found["parameters"][0] == "DAC [1]" and found["parameters"][-1] == "small"
    assert found["sorted"] == ["parameters"]


def test_a_report_is_not_replaced_by_a_page(compare, two_models) -> None:
    report = two_models / "small0/evaluations/university1652/report.json"
    before = report.read_bytes()
    assert "give another --html" in compare(two_models, "--html", report, "--json").err
    assert report.read_bytes() == before
