"""Numbers as people read them."""

UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def short(number: float) -> str:
    """Return a large number with four digits and its unit: `4.455 G`, `250 M`, `20`."""
    for unit, size in UNITS:
        # What four digits round up to the next unit is written in it: 1 M, not 1000 k.
        if number >= 0.99995 * size:
            return f"{number / size:.4g} {unit}"
    return f"{number:.4g}"


def percent(fraction: float) -> str:
    """Return a fraction as papers have it: percent with two decimals."""
    return f"{100 * fraction:.2f}"
