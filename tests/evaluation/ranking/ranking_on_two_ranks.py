"""Started by `accelerate launch` in test_ranking_together.py: writes what a rank saw as JSON."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from distill import collectives
from evaluation.ranking import InMemory
from evaluation.ranking_together import rank_shards, rank_together


def main() -> None:
    """Rank together, in uneven shards, and with one shard that is broken."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    seen: dict[str, object] = {"num_processes": accelerator.num_processes}
    folder = Path(sys.argv[1])
    query, gallery, query_labels, labels = torch.load(folder / "search.pt", weights_only=True)
    whole = rank_together(query, gallery, query_labels_Q=query_labels, gallery_labels_G=labels)
    edges = [0, 850, 900]
    part = slice(edges[collectives.rank()], edges[collectives.rank() + 1])
    shard = InMemory(gallery[part], labels[part])
    sharded = rank_shards(query, shard, query_labels_Q=query_labels)
    for name, ranking in (("together", whole), ("shards", sharded)):
        seen[name] = [ranking.of_query(number) for number in range(len(query))]
        seen[f"{name} gallery"] = ranking.num_gallery
    gallery[899, 0] = torch.nan
    try:
        rank_shards(query, InMemory(gallery[part], labels[part]), query_labels_Q=query_labels)
    except ValueError as error:
        seen["refused"] = str(error)
    (folder / f"rank{collectives.rank()}.json").write_text(json.dumps(seen))
    collectives.destroy_process_group()


main()
