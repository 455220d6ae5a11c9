"""Images per second: a mean only over runs that were measured alike, and told with the machine."""

import csv
import io
from dataclasses import replace

import pytest

from evaluation.efficiency.cost import Speed
from tests.evaluation.compare.conftest import make_report, make_speed

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"
EPYC = "AMD EPYC 7763 64-Core Processor"


def at(device: str, images_per_second: float, *, batch_size: int = 64, **more) -> Speed:
    speed = make_speed(device, images_per_second)
    milliseconds = 1000 * batch_size / images_per_second
    more.setdefault("threads", 0 if device.startswith("NVIDIA") else 2)
    return replace(speed, batch_size=batch_size, median_ms=milliseconds, **more)


@pytest.fixture
def runs(run_folder):
    """Writes a run per seed, each with its speeds, and returns their folder."""

    def write(name: str, *speeds: tuple[Speed, ...]):
        for seed, speed in enumerate(speeds):
            report = make_report(f"{name}_seed{seed}", seed=seed, speed=speed)
            folder = run_folder(f"runs/{name}{seed}", report)
        return folder.parent

    return write


def speeds(table: dict) -> dict[str, float]:
    return {
        row["label"]: number["low"]
        for row in table["rows"]
        for number in row["numbers"]
        if number["metric"] == "images_per_second"
    }


def best(table: dict) -> list[str]:
    return [
        row["label"]
        for row in table["rows"]
        for number in row["numbers"]
        if number["metric"] == "images_per_second" and number["is_best"]
    ]


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (at(A100, 1000), f"{A100}, float32, batch 64"),
        (at(H100, 1000, precision="bfloat16"), f"{H100}, bfloat16, batch 64"),
        (at(H100, 1000, batch_size=32), f"{H100}, float32, batch 32"),
        (at(H100, 1000, image_size=384), f"{H100}, float32, batch 64, 384 px"),
    ],
    ids=["device", "precision", "batch size", "image size"],
)
def test_speeds_of_seeds_measured_apart_are_not_averaged(
    compare, runs, tmp_path, other, where
) -> None:
    folder = runs("a", (at(H100, 4000),), (at(H100, 4200),), (other,))
    figures = tmp_path / "figures"
    told = compare(folder, "--no-published", "--figures", figures).out
    (line,) = [line for line in told.splitlines() if line.startswith("a ")]
    assert line.split()[-1] == "-" and "3067" not in told
    told = " ".join(told.split())
    assert "no images/s of a (-), whose runs were not measured alike: 4100 on NVIDIA H100" in told
    assert f"(seeds 0, 1); 1000 on {where} (seed 2)" in told
    assert not any("speed" in path.name for path in figures.iterdir())
    (table,) = compare(folder, "--json").tables
    assert speeds(table) == {} and any("not measured alike" in note for note in table["notes"])
    assert "images_per_second" not in compare(folder, "--format", "csv").out
    assert " - |" in compare(folder, "--format", "markdown", "--no-published").out
    assert r"& -- \\" in compare(folder, "--format", "latex", "--no-published").out


def test_threads_of_a_processor_count_and_those_beside_a_gpu_do_not(compare, runs) -> None:
    cpu = runs("cpu", (at(EPYC, 10, threads=8),), (at(EPYC, 20, threads=16),))
    told = " ".join(compare(cpu, "--no-published").out.split())
    assert f"10 on {EPYC}, float32, 8 threads, batch 64 (seed 0)" in told


def test_a_gpu_has_no_threads(compare, runs) -> None:
    gpu = runs("gpu", (at(H100, 4000),), (at(H100, 4200),))
    told = compare(gpu, "--no-published")
    assert f"images/s: {H100}, float32, batch 64\n" in told.out and "threads" not in told.out
    (table,) = compare(gpu, "--json", "--no-published").tables
    assert speeds(table) == {"gpu": pytest.approx(4100)}
    (number,) = [n for n in table["rows"][0]["numbers"] if n["metric"] == "images_per_second"]
    assert number["measured_on"] == f"{H100}, float32, batch 64" and number["runs"] == 2
    lines = csv.DictReader(io.StringIO(compare(gpu, "--format", "csv", "--no-published").out))
    assert {line["metric"]: line["measured_on"] for line in lines} | {"ap": ""} == {
        metric: number["measured_on"] if metric == "images_per_second" else ""
        for metric in ("recall@1", "ap", "px", "parameters", "ops", "images_per_second")
    }


def test_the_fastest_batch_size_that_all_seeds_share_is_told(compare, runs) -> None:
    one = (at(H100, 300, batch_size=1), at(H100, 4000))
    other = (at(H100, 320, batch_size=1), at(H100, 9000, batch_size=128))
    (table,) = compare(runs("a", one, other), "--json", "--no-published").tables
    assert speeds(table) == {"a": pytest.approx(310)}
    assert f"images/s: {H100}, float32, batch 1" in table["notes"]


def test_rows_at_the_fastest_of_the_same_batch_sizes_compare(compare, runs) -> None:
    runs("a", (at(H100, 300, batch_size=1), at(H100, 4000)))
    folder = runs("b", (at(H100, 5000, batch_size=1), at(H100, 4500)))
    (table,) = compare(folder, "--json", "--no-published").tables
    assert best(table) == ["b"]
    assert (
        f"images/s: {H100}, float32, fastest of the batch sizes (1 of b; 64 of a)" in table["notes"]
    )


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ((at(A100, 5000),), f"{A100}, float32, batch 64"),
        ((at(H100, 5000, batch_size=128),), f"{H100}, float32, batch 128"),
        ((at(EPYC, 5000, threads=1),), f"{EPYC}, float32, 1 thread, batch 64"),
    ],
    ids=["device", "batch size", "processor"],
)
def test_rows_measured_apart_do_not_compete(compare, runs, tmp_path, other, where) -> None:
    runs("a", (at(H100, 4000),))
    runs("b", (at(H100, 4100),))
    folder = runs("c", other)
    (table,) = compare(folder, "--json", "--figures", tmp_path / "figures").tables
    assert set(speeds(table)) == {"a", "b", "c"} and best(table) == []
    assert (
        f"images/s do not compare: a, b on {H100}, float32, batch 64; c on {where}"
        in (table["notes"])
    )
    assert not any("speed" in path.name for path in (tmp_path / "figures").iterdir())


def test_a_run_without_a_speed_is_counted_out(compare, runs) -> None:
    folder = runs("a", (at(H100, 4000),), (at(H100, 4200),), ())
    assert "4100 (2)" in compare(folder, "--no-published").out


def test_few_images_per_second_keep_their_digits(compare, runs) -> None:
    assert " 0.254" in compare(runs("a", (at(EPYC, 0.254),)), "--no-published").out
