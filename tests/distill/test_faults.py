"""Ranks that are killed, stopped or fewer than before; on_faults.py does it to real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from data_shards.shards import ShardSet
from tests.distill.conftest import ROOT, environment, tiny_config, write_recipe

KILLS = int(os.environ.get("SKYDISTILL_TEST_KILLS", "2"))
"""Of each engine; `make test-kill` asks for twenty."""

ASKED = {
    "ddp": (f"kills:{KILLS}", "hang:0", "hang:1", "elastic:2,1,2"),
    "zero2": (f"kills:{KILLS}", "hang:0"),
}
ENGINES = pytest.mark.parametrize("engine", list(ASKED))


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet
) -> Callable[[str], dict[str, Any]]:
    """A function from an engine to what was seen of its runs; each is started once."""
    known: dict[str, dict[str, Any]] = {}

    def see(engine: str) -> dict[str, Any]:
        if engine not in known:
            folder = tmp_path_factory.mktemp(engine)
            objectives = {"info_nce": {"weight": 1.0}, "triplet": {"weight": 1.0}}
            config = tiny_config(
                tiny_shards, folder / "run", data={"global_batch": 8}, objectives=objectives
            )
            recipe = write_recipe(folder / "recipe.yaml", config)
            settings = ROOT / "configs/accelerate/zero2.json" if engine == "zero2" else "-"
            command = [sys.executable, "-m", "tests.distill.on_faults", recipe, settings]
            ended = subprocess.run(
                [str(word) for word in [*command, *ASKED[engine]]],
                env=environment(),
                cwd=ROOT,
                text=True,
                capture_output=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            known[engine] = json.loads(ended.stdout.splitlines()[-1])
        return known[engine]

    return see


@ENGINES
def test_a_run_whose_ranks_are_killed_is_the_uninterrupted_one(seen, engine, capsys):
    found = seen(engine)[f"kills:{KILLS}"]
    kills = found["kills"]
    if KILLS > 2:
        value = {"engine": engine, "kills": len(kills), "steps": found["steps"]}
        value["during a save"] = sum(kill["left"][-1].endswith(".partial") for kill in kills)
        value["seconds until the other rank ended"] = max(kill["seconds"] for kill in kills)
        value |= {key: same for key, same in found.items() if key.endswith("identical")}
        with capsys.disabled():
            sys.stdout.write(json.dumps({"id": "F1", "value": value}) + "\n")
    assert found["losses identical"] and found["samples identical"]
    assert len(kills) == KILLS and found["steps"] == 8 * KILLS + 16
    for kill in kills:  # the other rank ends soon, and says where it was
        assert kill["seconds"] < 20 and "; in step " in kill["reason"], kill


@pytest.mark.parametrize(("engine", "rank"), [("ddp", 0), ("ddp", 1), ("zero2", 0)])
def test_a_silent_rank_is_waited_for_so_long_and_the_step_is_named(seen, engine, rank):
    found = seen(engine)[f"hang:{rank}"]
    assert found["code"] == 1 and found["exit"]["code"] == 1
    assert 3 < found["seconds"] < 20
    assert found["exit"]["reason"].endswith(f"; in step {found['step']}"), found


def test_a_run_goes_on_with_fewer_and_with_more_ranks_and_threads(seen):
    found = seen("ddp")["elastic:2,1,2"]
    assert found["samples identical"]
    assert found["largest relative difference of losses"] <= 1e-6
