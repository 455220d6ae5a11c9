"""The one line of JSON that a benchmark prints, and what machine and versions it names."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_shards.usable_cpus import usable_cpus


def machine() -> str:
    """Return processor, cores and memory; never a name that belongs to somebody."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in facts if "model name" in line), "unknown")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {usable_cpus()} cores, {memory_gib:.0f} GiB"


def report(goal: str, *, value: object, must: object, passed: bool, seed: int) -> int:
    """Print the line of one goal id and return the exit code: 0 when the goal is met."""
    versions = {name: _version(name) for name in ("skydistill", "numpy")}
    line = {
        "id": goal,
        "value": value,
        "must": must,
        "pass": passed,
        "machine": machine(),
        "versions": {"python": platform.python_version()} | versions,
        "seed": seed,
    }
    print(json.dumps(line))
    return 0 if passed else 1


def _version(name: str) -> str:
    """Return a version; `benchmarks/gpu.sh` runs from a checkout that nobody installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "of this checkout"
