"""Numbers and tables as text."""

from collections.abc import Sequence

import numpy as np

from tests.science.statistics import Estimate


def plain(value: float, *, signed: bool = False) -> str:
    """Write a share with three digits and no leading zero."""
    if np.isnan(value):
        return "–"
    sign = ("−" if value < 0 else "+" if signed else "") if abs(value) >= 0.0005 else ""
    return sign + f"{abs(value):.3f}".removeprefix("0")


def scale(value: float) -> str:
    """Write a positive number with two digits after the point."""
    return "–" if np.isnan(value) else f"{value:.2f}"


def difference(compared: Estimate) -> str:
    """Write a difference with its interval."""
    low, high = plain(compared.low, signed=True), plain(compared.high, signed=True)
    return f"{plain(compared.mean, signed=True)} [{low}, {high}]"


def ratio(compared: Estimate) -> str:
    """Write the ratio of an estimated log ratio with its interval."""
    mean, low, high = (
        scale(float(np.exp(each))) for each in (compared.mean, compared.low, compared.high)
    )
    return f"{mean} [{low}, {high}]"


def listed(words: Sequence[str]) -> str:
    """Join words; "none" without any."""
    return ", ".join(words) if words else "none"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
