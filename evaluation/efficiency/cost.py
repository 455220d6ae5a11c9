"""What a description costs, as reports and tables hold it. No torch."""

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

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-accumulate of real numbers."""
        return 2 * self.macs

    @property
    def ops(self) -> float:
        """BOPs / 64 + MACs, the count of BNext and BiCrossNet (spec bicrossnet 7.1)."""
        return self.bops / 64 + self.macs


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured: describing batches of images that are in memory, normalization included."""

    device: str
    """Name of the processor or GPU."""

    precision: str
    """Such as `float32`."""

    threads: int
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
    images_per_second: float
    """Batch size over the median."""

    peak_memory_mib: float
    """Of the process on a CPU, of the allocator on a GPU, above what the model itself takes."""
