"""What a description costs, counted on paper and measured on a machine, as reports hold it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Counted, not measured: the path that inference runs, per image at `image_size`."""

    image_size: int
    """Width and height in pixels."""

    parameters: int
    """Of the path that inference runs, binary ones included."""

    binary_parameters: int
    """Those of them that are one bit."""

    macs: int
    """Multiply-accumulates of real numbers; two floating-point operations each."""

    bops: int
    """Multiply-accumulates of one-bit numbers."""

    elementwise: int = 0
    """Norms, activations, pooling and biases as ptflops counts them."""

    buffers: int = 0
    """Numbers that are stored beside the parameters: batch statistics."""

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-accumulate of real numbers."""
        return 2 * self.macs

    @property
    def ops(self) -> float:
        """BOPs / 64 + MACs, the count of BNext and BiCrossNet (spec bicrossnet 7.1)."""
        return self.bops / 64 + self.macs

    @property
    def ops_per_pair(self) -> float:
        """Of one drone image and one satellite tile, BiCrossNet's unit (spec bicrossnet 6.1)."""
        return 2 * self.ops

    @property
    def ptflops(self) -> float:
        """OPs as ptflops 0.7.1 counts them, with elementwise work (spec bicrossnet 7.1)."""
        return self.ops + self.elementwise

    @property
    def stored_bytes(self) -> int:
        """Of what inference needs, in float32 as a checkpoint holds it."""
        return 4 * (self.parameters + self.buffers)

    def packed_bytes(self, real: int = 4) -> float:
        """One bit per binary weight, `real` bytes per other parameter; statistics are folded."""
        return self.binary_parameters / 8 + real * (self.parameters - self.binary_parameters)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured: uint8 batches that are in memory, normalized and described, one after the other."""

    device: str
    """Name of the processor or GPU."""

    precision: str
    """`float32`, or the type that autocast computes in."""

    threads: int
    """Of torch on a CPU; 0 elsewhere, as those of the processor beside a GPU tell nothing."""

    image_size: int
    batch_size: int
    warm_up: int
    """Batches before the first that counts."""

    runs: int
    """Batches that count."""

    median_ms: float
    """Milliseconds per batch."""

    least_ms: float
    most_ms: float
    peak_memory_mib: float | None
    """At most in use above what was in use after the first batch, the model and what libraries
    keep: resident memory of the process on a CPU, the allocator's on a GPU; None where the system
    does not tell."""

    @property
    def machine(self) -> str:
        """On what it was measured, in words: speeds compare where this is the same."""
        threads = {0: "", 1: ", 1 thread"}.get(self.threads, f", {self.threads} threads")
        return f"{self.device}, {self.precision}{threads}"

    @property
    def images_per_second(self) -> float:
        """Batch size over the median."""
        return 1000 * self.batch_size / self.median_ms
