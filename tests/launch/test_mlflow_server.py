"""An MLflow server, with SQLite and with PostgreSQL behind it, fed by a sweep; its page."""

import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from data_shards.shards import ShardSet
from distill.config.tracking import TrackingConfig
from distill.run_folder import RunPaths, record_exit
from distill.tracking import Tracker
from distill.weights_file import load_student
from launch.config import SweepConfig
from launch.demo import Stage
from launch.tracking import begin_sweep, sync
from tests.distill.conftest import save_newborn

PINK = (250, 10, 200)
CHROMIUM = shutil.which("chromium")
PROGRAMS = [Path(shutil.which("initdb") or ""), *Path("/usr/lib/postgresql").glob("*/bin/initdb")]


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL of our own in a folder, and return the address of an empty database."""
    programs = [path.resolve().parent for path in PROGRAMS if path.is_file()]
    if not programs or not importlib.util.find_spec("psycopg2"):
        pytest.skip(
            "PostgreSQL or psycopg2 is not here: .ci/setup.sh postgresql, pip install -e .[dev]"
        )
    root, data = os.geteuid() == 0, folder / "data"
    owner = "postgres" if root else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
    data.mkdir(parents=True)
    if root:
        shutil.chown(data, owner)
        for parent in [*data.parents][:-2]:
            parent.chmod(parent.stat().st_mode | 0o011)
    as_owner = {"user": owner, "cwd": data, "stdout": subprocess.DEVNULL} if root else {"cwd": data}
    words = [programs[0] / "initdb", "-D", data, "-A", "trust", "-U", "skydistill", "--no-sync"]
    subprocess.run(words, check=True, **as_owner)
    port = free_port()
    words = [programs[0] / "postgres", "-D", data, "-p", str(port), "-k", "", "-F"]
    server = subprocess.Popen(
        [*words, "-c", "listen_addresses=127.0.0.1"], stderr=subprocess.DEVNULL, **as_owner
    )
    try:
        ready = [programs[0] / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        wait_until(lambda: subprocess.run(ready).returncode == 0, server)
        yield f"postgresql+psycopg2://skydistill@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def served(store: str, folder: Path) -> Iterator[str]:
    """Serve a store on a free port of 127.0.0.1."""
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    words += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            words, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), server)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_ready: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180  # on a machine that is busy with other tests
    while not is_ready():
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def text_of_page(url: str, profile: Path, *, wants: str = "--dump-dom") -> str:
    """Return what headless Chromium shows, once the page's scripts have run."""
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", wants]
    words += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", "--no-first-run"]
    words += ["--virtual-time-budget=15000", "--window-size=1900,1000", url]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=180, check=True).stdout
    return re.sub(r"<[^>]+>", " ", shown)


@pytest.fixture(params=[False, True], ids=["sqlite", "postgresql"])
def is_postgresql(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def server(is_postgresql: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ExitStack() as running:
        store = f"sqlite:///{tmp_path / 'mlflow.db'}"
        if is_postgresql:
            store = running.enter_context(postgresql(tmp_path / "postgresql"))
        uri = running.enter_context(served(store, tmp_path))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.mark.slow
def test_a_sweep_is_recorded_by_a_server_and_its_page_shows_it(
    server: str, is_postgresql: bool, tmp_path: Path, tiny_shards: ShardSet
) -> None:
    out, name = tmp_path / "out", "tiny student"
    stage = Stage(name="a", title="a", argv=[], tracking=TrackingConfig(experiment="heights"))
    begin_sweep(SweepConfig(out=out, shards=Path("shards"), rows=()), [stage], name="both heights")
    trained = RunPaths(save_newborn(tmp_path / "trained", tiny_shards, seed=1))
    for height, recall in ((150, 0.625), (300, 0.875)):
        tracker = Tracker(RunPaths(out / f"runs/student_{height}"))
        tracker.paths.folder.mkdir(parents=True)
        asked = {"params": {"data.altitudes": f"[{height}]"}, "tags": {}, "sweep": out}
        tracker.start(name=tracker.paths.folder.name, experiment="heights", uri=server, **asked)
        tracker.log_dataset("sues200", "f" * 64, "shards", context="train")
        tracker.log(3, {"probe/d2s/recall_at_1": recall})
        tracker.log(
            3, {"cost/parameters": 650000.0 + height, f"test/d2s/{height}m/recall_at_1": 0.25}
        )
        Image.new("RGB", (400, 300), PINK).save(tracker.paths.folder / "found.png")
        tracker.log_artifact(
            tracker.paths.folder / "found.png", folder="evaluations/sues200/figures"
        )
        width = load_student(trained.folder).model.width
        tracker.log_model(trained.weights, width=width, register=name)
        tracker.finish("FINISHED")
        record_exit(tracker.paths, code=0, reason="done")
    *lines, view = sync(out)
    assert all(line.endswith(f": 0 lines sent to {server}") for line in lines)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("heights").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {run.info.status for run in runs.values()} == {"FINISHED"} and len(runs) == 3
    best = client.get_model_version_by_alias(name, "best")
    assert best.run_id == runs["student_300"].info.run_id
    ours = f"source_run_id = '{best.run_id}'"
    (model,) = client.search_logged_models([experiment], ours)
    files = [file.path for file in client.list_logged_model_artifacts(model.model_id)]
    assert {"MLmodel", "data"} <= {*files}
    if is_postgresql:  # the page is the same
        return
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; make test installs it")
    runs_page = f"{server}/#/experiments/{experiment}/runs"
    assert_pages_show_it(view.removeprefix("view: "), runs_page, best.run_id, tmp_path)


def assert_pages_show_it(view: str, runs: str, run_id: str, folder: Path) -> None:
    """Open the view of the sweep as table and charts, its experiment, and a run with a figure."""
    profile, rows = folder / "profile", ("student_150", "student_300")
    page = text_of_page(view, profile)
    assert all(word in page for word in (*rows, "data.altitudes", "[300]"))
    assert page.index("0.875") < page.index("0.625"), "the best comes first"
    assert "cost/parameters" in page and "650300" in page, "how expensive, without scrolling"
    assert "Model registry" in page and "Judges" not in page, "model training, not GenAI"
    charts = text_of_page(f"{view}&compareRunsMode=CHART", profile)
    assert all(word in charts for word in (*rows, "Add chart", "cost"))
    folded = text_of_page(runs, profile)
    assert "both heights" in folded and rows[0] not in folded
    page = text_of_page(f"{runs}/{run_id}", profile)
    names = ("best/d2s/recall_at_1", "0.875", "tiny student", "sues200")
    assert all(word in page for word in names)
    figure, seen = "artifacts/evaluations/sues200/figures/found.png", folder / "seen.png"
    text_of_page(f"{runs}/{run_id}/{figure}", profile, wants=f"--screenshot={seen}")
    with Image.open(seen) as screen:
        colours = np.asarray(screen.convert("RGB")).reshape(-1, 3)
    assert (colours == PINK).all(1).sum() > 0.9 * 400 * 300, "the figure is seen inside the page"
