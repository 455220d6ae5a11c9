"""`skydistill doctor`: whether this machine can train, one line per thing, each with its remedy."""

import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from data_shards.errors import SkyDistillError
from data_shards.usable_cpus import usable_cpus
from launch.config import DoctorConfig
from launch.process import run_captured

GIB = 2**30
LEAST_FREE_GIB = 2.0
"""Of the disk that runs are written to: two checkpoints of the largest student."""

LEAST_SHARED_GIB = 1.0
"""Of /dev/shm, through which NCCL's ranks of one node talk; containers often give 0.06."""

LEAST_OPEN_FILES = 4096
SECONDS_FOR_A_SERVER = "5"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one thing."""

    what: str
    says: str
    state: Literal["ok", "absent", "wrong"] = "ok"
    """`absent` is something optional; `wrong` keeps a run from working, and the exit code is 2."""

    remedy: str = ""


def examine(config: DoctorConfig) -> int:
    """Print every finding; return 0, or 2 when something that a run needs is wrong."""
    found = [finding for look in LOOKS for finding in look(config)]
    if config.json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in found], indent=2) + "\n")
    else:
        width = max(len(finding.what) for finding in found)
        for one in found:
            remedy = f"; {one.remedy}" if one.remedy else ""
            sys.stdout.write(f"{one.state:<7} {one.what:<{width}}  {one.says}{remedy}\n")
    return 2 if any(finding.state == "wrong" for finding in found) else 0


def libraries(config: DoctorConfig) -> Iterator[Finding]:
    """Compare what is installed with what the package asks for, extras included."""
    yield Finding(what="python", says=f"{platform.python_version()} on {platform.machine()}")
    for text in requires("skydistill") or ():
        asked = Requirement(text)
        extra = (
            "" if asked.marker is None else str(asked.marker).partition("extra == ")[2].strip("\"'")
        )
        if extra == "dev" or asked.name == "editables":  # what a checkout needs to be installed
            continue
        install = f"pip install 'skydistill[{extra}]'" if extra else f"pip install '{asked}'"
        try:
            has = version(asked.name)
        except PackageNotFoundError:
            state: Literal["absent", "wrong"] = "absent" if extra else "wrong"
            yield Finding(what=asked.name, says="not installed", state=state, remedy=install)
            continue
        if asked.specifier.contains(has, prereleases=True):
            yield Finding(what=asked.name, says=has)
        else:
            says = f"{has}, and {asked.specifier} is needed"
            yield Finding(what=asked.name, says=says, state="wrong", remedy=install)


def devices(config: DoctorConfig) -> Iterator[Finding]:
    """Look at GPUs, processors, and the libraries through which ranks talk."""
    import torch

    from distill.collectives import available_backends

    yield Finding(what="processors", says=f"{usable_cpus()} of {os.cpu_count()} may be used")
    if not torch.cuda.is_available():
        built = (
            f"torch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "torch is built without CUDA"
        )
        remedy = "training runs on the CPU; for GPUs look at nvidia-smi and the driver"
        yield Finding(what="GPU", says=f"none ({built})", state="absent", remedy=remedy)
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        bf16 = "bf16" if card.major >= 8 else "no bf16: train with precision fp16"
        says = f"{card.name}, {card.total_memory / GIB:.0f} GiB, {bf16}"
        yield Finding(what=f"GPU {number}", says=says)
    backends = available_backends()
    needed = "nccl" if torch.cuda.is_available() else "gloo"
    if needed in backends:
        yield Finding(what="ranks", says=f"talk through {' and '.join(backends)}")
    else:
        remedy = "install torch as pytorch.org says for this machine"
        yield Finding(
            what="ranks", says=f"{needed} is not in this torch", state="wrong", remedy=remedy
        )


def compilers(config: DoctorConfig) -> Iterator[Finding]:
    """Look for what torch.compile and DeepSpeed's own kernels are compiled with."""
    found = [name for name in ("g++", "nvcc") if shutil.which(name)]
    remedy = "" if "g++" in found else "model.compile and DeepSpeed's kernels need g++: install it"
    yield Finding(
        what="compilers",
        says=" and ".join(found) or "none",
        state="absent" if remedy else "ok",
        remedy=remedy,
    )


def system(config: DoctorConfig) -> Iterator[Finding]:
    """Look at shared memory, open files and disks."""
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).total / GIB
        is_small = free < LEAST_SHARED_GIB
        yield Finding(
            what="shared memory",
            says=f"{free:.1f} GiB",
            state="absent" if is_small else "ok",
            remedy="several GPUs of a node need more: start the container with --shm-size 8g"
            if is_small
            else "",
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_low = soft < LEAST_OPEN_FILES
    yield Finding(
        what="open files",
        says=f"{soft} (may be raised to {hard})",
        state="absent" if is_low else "ok",
        remedy=f"many shards need more: ulimit -n {min(hard, 2 * LEAST_OPEN_FILES)}"
        if is_low
        else "",
    )
    folder = config.out.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / GIB
    is_full, can_write = free < LEAST_FREE_GIB, os.access(there, os.W_OK)
    yield Finding(
        what="disk",
        says=f"{free:.0f} GiB free at {config.out}"
        + ("" if can_write else ", which cannot be written"),
        state="wrong" if is_full or not can_write else "ok",
        remedy="free some, or give --out on another disk" if is_full or not can_write else "",
    )


def store(config: DoctorConfig) -> Iterator[Finding]:
    """Look at the MLflow store that runs in `out` would be recorded in; nothing is made there."""
    from distill.mlflow_store import SQLITE, first_line, open_store
    from distill.run_folder import RunPaths
    from distill.tracking import tracking_uri

    uri = tracking_uri(RunPaths(config.out / "run"), None)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        yield Finding(what="MLflow store", says=f"{uri} is not there yet; the first run makes it")
        return
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS_FOR_A_SERVER)
    try:
        names = [one.name for one in open_store(uri).search_experiments()]
    except SkyDistillError as error:
        yield Finding(what="MLflow store", says=str(error), state="wrong")
    except Exception as error:  # noqa: BLE001 - a store fails in many ways; all mean the same to a user
        says = f"{uri} does not answer ({first_line(error)})"
        remedy = "start it; runs keep their metrics and send them later"
        yield Finding(what="MLflow store", says=says, state="wrong", remedy=remedy)
    else:
        yield Finding(what="MLflow store", says=f"{uri}, experiments {', '.join(names)}")


def cluster(config: DoctorConfig) -> Iterator[Finding]:
    """Look for a cluster and what this site says of it."""
    from launch.cluster import SITE, read_site

    code, said = run_captured(["sinfo", "-h", "-o", "%R (%D nodes, %G)"])
    if code:
        remedy = "sweeps run here with skydistill sweep --local"
        yield Finding(what="Slurm", says="no cluster answers", state="absent", remedy=remedy)
    else:
        yield Finding(what="Slurm", says=", ".join(said.splitlines()))
    if SITE.is_file():
        try:
            yield Finding(what="site file", says=f"{SITE}: {read_site(SITE).ranks} ranks a row")
        except SkyDistillError as error:
            yield Finding(what="site file", says=str(error), state="wrong")
    elif not code:
        remedy = "copy slurm/site.env.example there and fill it"
        yield Finding(what="site file", says=f"no {SITE}", state="absent", remedy=remedy)


def weights(config: DoctorConfig) -> Iterator[Finding]:
    """List pretrained weights, timm's in its cache and files of a folder, with their licences."""
    from distill.models.weights import Origin, cached_timm_weights

    found = cached_timm_weights()
    for path in sorted(config.weights.glob("*")) if config.weights.is_dir() else ():
        if path.suffix in (".safetensors", ".pth", ".pt"):
            found[path.name] = Origin(source=str(path))
    for name, origin in found.items():
        says = f"{origin.source}, licence {origin.licence_in_words}"
        yield Finding(what=f"weights {name}", says=says)
    if not found:
        yield Finding(
            what="weights",
            says=f"none in timm's cache and in {config.weights}",
            state="absent",
            remedy="recipes with model.weights timm fetch theirs when a network is there",
        )


LOOKS: tuple[Callable[[DoctorConfig], Iterator[Finding]], ...] = (
    libraries,
    devices,
    compilers,
    system,
    store,
    cluster,
    weights,
)
