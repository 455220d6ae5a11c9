"""Started by `accelerate launch` in test_rank_distributed.py: writes what a rank saw as JSON."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from distill import collectives
from evaluation.ranking import InMemory, rank_gallery
from evaluation.retrieval import DistributedExchange, rank_distributed


def main() -> None:
    """Rank one whole gallery, in uneven shards, and with one shard that is broken."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    seen: dict[str, object] = {"num_processes": accelerator.num_processes}
    folder = Path(sys.argv[1])
    query, gallery, query_labels, labels = torch.load(folder / "search.pt", weights_only=True)
    whole = rank_distributed(query, gallery, query_labels_Q=query_labels, gallery_labels_G=labels)
    edges = [0, 850, 900]
    part = slice(edges[collectives.rank()], edges[collectives.rank() + 1])
    shard, exchange = InMemory(gallery[part], labels[part]), DistributedExchange()
    sharded = rank_gallery(query, shard, query_labels_Q=query_labels, exchange=exchange)
    for name, ranking in (("distributed", whole), ("shards", sharded)):
        seen[name] = [ranking.of_query(number) for number in range(len(query))]
        seen[f"{name} gallery"] = ranking.num_gallery
    gallery[899, 0] = torch.nan
    try:
        shard = InMemory(gallery[part], labels[part])
        rank_gallery(query, shard, query_labels_Q=query_labels, exchange=exchange)
    except ValueError as error:
        seen["refused"] = str(error)
    (folder / f"rank{collectives.rank()}.json").write_text(json.dumps(seen))
    collectives.destroy_process_group()


main()
