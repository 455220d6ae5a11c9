"""How a layer says that it computes with one-bit numbers, so that its cost is counted as such."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class OneBitLayer(Protocol):
    """A layer whose products at inference are of one-bit weights and one-bit activations.

    Every multiply-accumulate inside its forward counts as a binary operation (spec bicrossnet 7.1);
    what it does besides, such as a batch norm or a channel scale, belongs into a layer of its own.
    """

    one_bit_parameters: tuple[str, ...]
    """Names of its own parameters that are stored in one bit each."""
