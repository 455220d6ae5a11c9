"""Goal E7 (H200): 100,000 queries in a gallery of 10 million, exact counts, on one GPU.

Descriptors of width 512, made on the device in half precision (10 GB), one positive per query. The
ranks of some queries are compared with float64 scores of the whole gallery, block by block. `--toy`
takes few of both, on a CPU where there is no GPU: it shows that the script is right.
"""

import sys
import time

import torch
from line import report

from evaluation.ranking import rank

MUST_SECONDS, SEED, WIDTH, BLOCK, CHECKED = 5.0, 0, 512, 100_000, 8
QUERIES_AND_GALLERY, TOY = (100_000, 10_000_000), (50, 20_000)


def main() -> int:
    """Time one search, and print one line."""
    has_gpu, is_toy = torch.cuda.is_available(), "--toy" in sys.argv[1:]
    if not (has_gpu or is_toy):
        print("E7 needs a CUDA device, and there is none here", file=sys.stderr)
        return 0
    device = "cuda" if has_gpu else "cpu"
    num_queries, num_gallery = TOY if is_toy else QUERIES_AND_GALLERY
    generator = torch.Generator(device).manual_seed(SEED)
    query = torch.randn(num_queries, WIDTH, generator=generator, device=device)
    gallery = torch.empty(num_gallery, WIDTH, device=device, dtype=torch.float16)
    for block in gallery.split(BLOCK):
        block.copy_(torch.randn(len(block), WIDTH, generator=generator, device=device))
    gallery[:num_queries] += 0.35 * query
    query, labels = query.half(), torch.arange(num_gallery, device=device)

    def search(count: int) -> list[int]:
        found = rank(query[:count], gallery, query_labels_Q=labels[:count], gallery_labels_G=labels)
        ranks: list[int] = found.ranks_P.tolist()
        return ranks

    own = (query[:CHECKED].double() * gallery[:CHECKED].double()).sum(dim=1)
    higher = torch.zeros_like(own, dtype=torch.int64)
    for block in gallery.split(BLOCK):
        higher += (query[:CHECKED].double() @ block.double().T >= own[:, None]).sum(dim=1)
    few = search(CHECKED)
    # The positive itself may or may not reach its own score in a product: it is no negative.
    assert all(0 <= int(high) - number <= 1 for high, number in zip(higher, few, strict=True))
    if has_gpu:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    search(num_queries)  # the list of ranks waits for the device
    taken = time.perf_counter() - begun
    name = torch.cuda.get_device_name() if has_gpu else device
    value = {"device": name, "toy": is_toy, "seconds": round(taken, 3)}
    must = f"<= {MUST_SECONDS} s"
    code = report("E7", value=value, must=must, passed=taken <= MUST_SECONDS, seed=SEED)
    return 0 if is_toy else code


if __name__ == "__main__":
    sys.exit(main())
