"""A real Slurm on this machine: one controller, two nodes of two fake GPUs, in a folder."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SLURM_CONF = """\
ClusterName=skydistill
FirstJobId={ports[0]}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
GresTypes=gpu
MpiDefault=none
ReturnToService=2
NodeName=n0 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 Gres=gpu:2
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 Gres=gpu:2
PartitionName=main Nodes=n0,n1 Default=YES MaxTime=120
"""
"""FirstJobId: two such clusters on a machine do not give their jobs the same ports."""

GRES_CONF = "".join(
    f"NodeName={node} Name=gpu File={device}\n"
    for node in ("n0", "n1")
    for device in ("/dev/null", "/dev/zero")
)


@dataclass(frozen=True)
class Cluster:
    """A running Slurm, and the folder from which jobs are submitted."""

    folder: Path
    environment: dict[str, str]

    def site(self, **values: object) -> None:
        """Write slurm/site.env."""
        lines = [f"SITE_{name.upper()}={value}\n" for name, value in values.items()]
        lines.append("MASTER_ADDR=127.0.0.1\n")  # names of these nodes are no addresses
        (self.folder / "slurm").mkdir(exist_ok=True)
        (self.folder / "slurm/site.env").write_text("".join(lines))

    def run(self, *words: object, code: int = 0) -> str:
        """Run a command in the folder, and return what it says."""
        ended = subprocess.run(
            list(map(str, words)),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    def skydistill(self, *words: object, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "launch.main", *words, code=code)

    def queue(self) -> list[list[str]]:
        """Return name, index, state and reason of every job in the queue."""
        said = self.run("squeue", "-h", "-r", "-o", "%j %K %T %r")
        return [line.split() for line in said.splitlines()]

    def wait(self, until: Callable[[], object], *, seconds: float) -> None:
        """Wait until something is true; else show the queue and every log."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                logs = "\n".join(f"{path}\n{path.read_text()}" for path in self.logs())
                pytest.fail(f"{self.queue()}\n{logs}")
            time.sleep(0.3)

    def logs(self) -> list[Path]:
        return sorted(self.folder.rglob("*.out"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Slurm that is stopped at the end, with every job of it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in ("slurmctld", "slurmd") if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be installed here: .ci/setup.sh slurm")
    folder = tmp_path_factory.mktemp("slurm")
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for listener in (one, two, three):
            listener.bind(("127.0.0.1", 0))
        ports = [listener.getsockname()[1] for listener in (one, two, three)]
    conf = SLURM_CONF.format(folder=folder, ports=ports, user=getpass.getuser())
    (folder / "slurm.conf").write_text(conf)
    (folder / "gres.conf").write_text(GRES_CONF)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "state").mkdir()
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    made = Cluster(folder, environment)
    try:
        made.run("slurmctld", "-c")
        made.run("slurmd", "-N", "n0")
        made.run("slurmd", "-N", "n1")
        made.wait(lambda: made.run("sinfo", "-h", "-o", "%T %D").strip() == "idle 2", seconds=30)
        yield made
        made.run("scancel", "--user", getpass.getuser())
        made.wait(lambda: not made.queue(), seconds=120)
    finally:
        for pid_file in folder.glob("*.pid"):
            os.kill(int(pid_file.read_text()), 15)
