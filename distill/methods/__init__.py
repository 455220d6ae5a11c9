"""The methods a recipe can name: each says which network, terms, groups and phases it has."""

from distill.methods.bicrossnet import Bicrossnet
from distill.methods.method import Method, Phase, Rows, StepTensors, Term, phase_at
from distill.methods.pfed import Pfed

METHODS: dict[str, Method] = {"pfed": Pfed(), "bicrossnet": Bicrossnet()}
"""Name in a recipe to the method."""

__all__ = ["METHODS", "Method", "Phase", "Rows", "StepTensors", "Term", "phase_at"]
