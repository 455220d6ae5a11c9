"""Images in, named outputs and unit descriptors out: backbones, heads, first weights."""

from distill.models.backbones import ARCHS
from distill.models.binary import OneBitLayer, binary_parameters
from distill.models.outputs import Outputs, Shapes, unit
from distill.models.preprocess import normalize
from distill.models.retrieval import RetrievalModel, build_model, inference, to_device

__all__ = [
    "ARCHS",
    "OneBitLayer",
    "Outputs",
    "RetrievalModel",
    "Shapes",
    "binary_parameters",
    "build_model",
    "inference",
    "normalize",
    "to_device",
    "unit",
]
