"""Images in, descriptors and class logits out: backbones, pooling, heads, first weights."""

from distill.models.archs import ARCHS
from distill.models.inference import inference
from distill.models.preprocess import normalize
from distill.models.retrieval import Outputs, RetrievalModel, build_model

__all__ = ["ARCHS", "Outputs", "RetrievalModel", "build_model", "inference", "normalize"]
