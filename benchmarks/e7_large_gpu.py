"""Goal E7 (H200): 100,000 queries in a gallery of 10 million, exact counts, on one GPU.

Descriptors of width 512, made on the device in half precision (10 GB), one positive per query. The
ranks of some queries are compared with float64 scores of the whole gallery, block by block.
"""

import sys
import time

import torch
from line import report

from evaluation.ranking import rank

MUST_SECONDS, SEED, QUERIES, GALLERY, WIDTH, BLOCK = 5.0, 0, 100_000, 10_000_000, 512, 100_000
CHECKED = 8


def main() -> int:
    """Time one search, and print one line."""
    if not torch.cuda.is_available():
        print("E7 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    generator = torch.Generator("cuda").manual_seed(SEED)
    query = torch.randn(QUERIES, WIDTH, generator=generator, device="cuda")
    gallery = torch.empty(GALLERY, WIDTH, device="cuda", dtype=torch.float16)
    for block in gallery.split(BLOCK):
        block.copy_(torch.randn(len(block), WIDTH, generator=generator, device="cuda"))
    gallery[:QUERIES] += 0.35 * query
    query, labels = query.half(), torch.arange(GALLERY, device="cuda")

    def search(num_queries: int) -> list[int]:
        found = rank(
            query[:num_queries],
            gallery,
            query_labels_Q=labels[:num_queries],
            gallery_labels_G=labels,
        )
        ranks: list[int] = found.ranks_P.tolist()
        return ranks

    own = (query[:CHECKED].double() * gallery[:CHECKED].double()).sum(dim=1)
    higher = torch.zeros_like(own, dtype=torch.int64)
    for block in gallery.split(BLOCK):
        higher += (query[:CHECKED].double() @ block.double().T >= own[:, None]).sum(dim=1)
    few = search(CHECKED)
    # The positive itself may or may not reach its own score in a product: it is no negative.
    assert all(0 <= int(high) - number <= 1 for high, number in zip(higher, few, strict=True))
    torch.cuda.synchronize()
    begun = time.perf_counter()
    search(QUERIES)
    taken = time.perf_counter() - begun
    value = {"device": torch.cuda.get_device_name(), "seconds": round(taken, 3)}
    must = f"<= {MUST_SECONDS} s"
    return report("E7", value=value, must=must, passed=taken <= MUST_SECONDS, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
