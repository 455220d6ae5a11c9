"""`skydistill compare --tracking-uri` on files that are no store it can read: never changed."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from distill.mlflow_store import open_store

HOLD = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as MLflow makes it, without a run."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_store(f"sqlite:///{file}").create_experiment("E")
    return file


def set_version(version: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with closing(sqlite3.connect(file)) as store, store:
            store.execute("update alembic_version set version_num = ?", [version])

    return change


def empty_tables(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("create table birds (name text)")


def break_pages(file: Path) -> None:
    pages = bytearray(file.read_bytes())
    pages[4096:] = b"\xff" * (len(pages) - 4096)
    file.write_bytes(pages)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (empty_tables, "is no MLflow store, or one whose making was interrupted"),
        (lambda file: file.write_bytes(b""), "is no MLflow store"),
        (lambda file: file.write_text("notes " * 99), "cannot be read (file is not a database)"),
        (break_pages, "cannot be read (database disk image is malformed)"),
        (set_version("451aebb31d03"), "has schema 451aebb31d03, and MLflow"),
        (set_version("ffffffffffff"), "install the MLflow that wrote it"),
        (lambda file: None, "has 0 runs and no evaluation of any"),
    ],
    ids=["foreign", "empty", "no database", "damaged", "older", "newer", "fine"],
)
def test_a_file_is_left_as_it_is(compare, good, tmp_path, change, says) -> None:
    file = Path(shutil.copy(good, tmp_path))
    change(file)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    told = compare("--tracking-uri", f"sqlite:///{file}", "--experiment", "E").sentence
    assert says in told
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_store_that_another_program_holds_is_told(compare, good, tmp_path) -> None:
    file = Path(shutil.copy(good, tmp_path))
    before = file.read_bytes()
    with _held(file):
        told = compare("--tracking-uri", f"sqlite:///{file}", "--experiment", "E").sentence
    assert "database is locked" in told and "wait" in told
    assert file.read_bytes() == before


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Lock a store from another process: a lock of this one is gone once it reads the file."""
    words = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.communicate()


def test_a_driver_that_is_not_installed_is_named(compare, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    told = compare("--tracking-uri", "postgresql://me@localhost/runs").sentence
    assert "needs the Python package psycopg" in told
