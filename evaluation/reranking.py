"""What `--rerank` was told."""

from evaluation.config import EvaluateConfig
from evaluation.ranking.k_reciprocal import RerankSettings


def rerank_settings(config: EvaluateConfig) -> RerankSettings:
    """Return the numbers of re-ranking."""
    return RerankSettings(
        top=config.rerank_top,
        k1=config.rerank_k1,
        k2=config.rerank_k2,
        lambda_=config.rerank_lambda,
    )
