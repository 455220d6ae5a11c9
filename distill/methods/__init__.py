"""What a method is: which loss terms it has, and which outputs of a teacher they need."""

from distill.methods.pfed import pfed_terms
from distill.methods.terms import StepTensors, Term, Terms

METHODS: dict[str, Terms] = {"pfed": pfed_terms}
"""Name in a recipe to the function that makes the method's terms."""

__all__ = ["METHODS", "StepTensors", "Term", "Terms"]
