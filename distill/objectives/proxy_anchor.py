"""A learned proxy of each place against all images of the global batch."""

# Shapes: N = images over all ranks, C = training places, D = descriptor width.

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def proxy_anchor(
    unit_ND: Tensor, proxy_CD: Tensor, place_N: Tensor, *, scale: float = 32.0, margin: float = 0.1
) -> Tensor:
    """Return the proxy-anchor loss; section 3.2 of Kim et al. 2020.

    `place_N` is the row of each image's proxy; proxies may have any length. `scale` and `margin`
    are alpha and delta of the paper.
    """
    cosine_NC = unit_ND @ F.normalize(proxy_CD, dim=1).T
    own_NC = F.one_hot(place_N, num_classes=len(proxy_CD)).bool()
    pull_NC = (scale * (margin - cosine_NC)).masked_fill(~own_NC, -math.inf)
    push_NC = (scale * (margin + cosine_NC)).masked_fill(own_NC, -math.inf)
    one_1C = torch.zeros_like(cosine_NC[:1])  # the 1 of log(1 + sum exp), as exp(0)
    pull_C = torch.cat([one_1C, pull_NC]).logsumexp(dim=0)
    push_C = torch.cat([one_1C, push_NC]).logsumexp(dim=0)
    return pull_C.sum() / own_NC.any(dim=0).sum() + push_C.mean()
