"""Goal E5: counts of a gallery in parts: over 1, 2, 4 and 8 processes, and streamed from a disk.

The processes are real (gloo) and small; each holds one part. All of them must print the ranks that
one process finds in the whole gallery, which holds copies, to the last bit. The streamed gallery is
2 million descriptors of 448 half floats, 1.8 GB in a file that is deleted afterwards; four queries'
ranks are checked against float64 scores block by block.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from line import report
from resident import forget_peak, peak_gib
from torch import Tensor

from distill import collectives
from evaluation.ranking import InMemory, OnDisk, Ranking, rank, rank_gallery
from evaluation.retrieval import DistributedExchange

MUST_GIB, SEED, WORLDS = 2.0, 0, (1, 2, 4, 8)
STREAMED, WIDTH, BLOCK, STREAMED_QUERIES = 2_000_000, 448, 8000, 64


def small_search() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """150 queries, 12,000 images of 400 places with copies, junk, and positives in the crowd."""
    generator = torch.Generator().manual_seed(SEED)
    centre = torch.randn(400, 96, generator=generator)
    labels = torch.randint(-1, 400, (12_000,), generator=generator)
    gallery = 0.5 * centre[labels] + torch.randn(12_000, 96, generator=generator)
    gallery[6000:7000] = gallery[2000:3000]
    query = 0.5 * centre[:150] + torch.randn(150, 96, generator=generator)
    return query, gallery, torch.arange(150), labels


def digest(ranking: Ranking) -> str:
    """Return a hash of all ranks."""
    numbers = torch.cat([ranking.ranks_P, ranking.offsets]).numpy().tobytes()
    return hashlib.sha256(numbers).hexdigest()


def work(folder: Path) -> int:
    """Be one of the processes: rank one's part, and write what came out."""
    torch.set_num_threads(1)
    assert Accelerator(cpu=True).num_processes == collectives.world_size()
    query, gallery, query_labels, labels = small_search()
    ranks, number = collectives.world_size(), collectives.rank()
    part = slice(len(gallery) * number // ranks, len(gallery) * (number + 1) // ranks)
    shard = InMemory(gallery[part].clone(), labels[part].clone())
    ranking = rank_gallery(
        query, shard, query_labels_Q=query_labels, exchange=DistributedExchange()
    )
    (folder / f"{ranks}-{number}").write_text(digest(ranking))
    collectives.destroy_process_group()
    return 0


def shard_over_processes(folder: Path) -> dict[str, bool]:
    """Return for each number of processes whether every one of them found the whole's ranks."""
    query, gallery, query_labels, labels = small_search()
    whole = digest(rank(query, gallery, query_labels_Q=query_labels, gallery_labels_G=labels))
    found = {}
    for world in WORLDS:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node", str(world), __file__, str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        written = [(folder / f"{world}-{number}").read_text() for number in range(world)]
        found[f"{world} processes"] = set(written) == {whole}
    return found


def stream(path: Path) -> dict[str, float | bool]:
    """Rank a gallery that is on the disk only."""
    generator = np.random.default_rng(SEED)
    labels = torch.arange(STREAMED) // 4
    centre = generator.normal(size=(STREAMED_QUERIES, WIDTH)).astype(np.float32)
    with path.open("wb") as file:
        for start in range(0, STREAMED, BLOCK):
            rows = generator.standard_normal((BLOCK, WIDTH), dtype=np.float32)
            own = max(0, min(BLOCK, 4 * STREAMED_QUERIES - start))
            rows[:own] += 0.35 * centre[np.arange(start, start + own) // 4]
            file.write(rows.astype(np.float16).tobytes())
    query = torch.from_numpy(centre)
    gallery = OnDisk(path, labels, shape=(STREAMED, WIDTH), dtype="<f2")
    before = forget_peak()
    ranking = rank_gallery(query, gallery, query_labels_Q=torch.arange(STREAMED_QUERIES))
    found = {"resident GiB": round(peak_gib(), 3), "of which before": round(before, 3)}
    chosen, counts = query[:4].double(), torch.zeros(4, 4, dtype=torch.int64)
    positives = gallery.read(slice(0, 16)).double().view(4, 4, WIDTH)
    threshold = (positives * chosen[:, None]).sum(dim=2).sort(dim=1, descending=True).values
    for start in range(0, STREAMED, BLOCK):
        score = gallery.read(slice(start, start + BLOCK)).double() @ chosen.T
        is_negative = labels[start : start + BLOCK, None] != torch.arange(4)
        for place in range(4):
            is_higher = (score >= threshold[:, place]) & is_negative
            counts[:, place] += is_higher.sum(dim=0)
    expected = (counts + torch.arange(4)).tolist()
    return found | {"like float64": [ranking.of_query(q) for q in range(4)] == expected}


def main() -> int:
    """Rank both ways, and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        shards = shard_over_processes(Path(folder))
        streamed = stream(Path(folder) / "gallery.bin")
    passed = all(shards.values()) and bool(streamed["like float64"])
    passed &= streamed["resident GiB"] <= MUST_GIB
    must = f"bit-identical ranks; resident <= {MUST_GIB} GiB"
    value = shards | streamed
    return report("E5", value=value, must=must, passed=passed, seed=SEED)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])) if len(sys.argv) > 1 else main())
