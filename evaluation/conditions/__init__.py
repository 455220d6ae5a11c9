"""Photographs of a clear day in, the same photographs in weather and difficult light out."""

from evaluation.conditions.named import CONDITIONS, VERSION, Condition, chosen_conditions

__all__ = ["CONDITIONS", "VERSION", "Condition", "chosen_conditions"]
