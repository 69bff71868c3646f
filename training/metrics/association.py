"""How strongly two nominal variables go together, from their table of counts."""

import math

from jaxtyping import Int
from numpy import ndarray


def cramers_v(counts: Int[ndarray, "row column"], *, corrected: bool = False) -> float:
    r"""Compute Cramér's V: 0 without association, 1 where one variable fixes the other.

    $V = \sqrt{\varphi^2 / \min(r - 1, c - 1)}$ with $\varphi^2 = \chi^2 / n$ (Cramér, Mathematical
    Methods of Statistics, 1946, section 21.9). NaN where fewer than two rows or columns have
    counts.

    Args:
        counts: of the combinations; rows and columns of zeros do not matter.
        corrected: subtract what chance alone gives, which is much where rows or columns are many
            and counts are few: $\tilde\varphi^2 = \max(0, \varphi^2 - (r-1)(c-1)/(n-1))$,
            $\tilde r = r - (r-1)^2/(n-1)$, c alike (Bergsma, Journal of the Korean Statistical
            Society 42:323, 2013).
    """
    square, total, (rows, columns) = _mean_square(counts)
    if min(rows, columns) < 1:
        return math.nan
    if not corrected:
        return math.sqrt(square / min(rows, columns))
    square = max(0.0, square - rows * columns / (total - 1))
    least = min(rows - rows**2 / (total - 1), columns - columns**2 / (total - 1))
    return math.sqrt(square / least) if least > 0 else 0.0


def chance(counts: Int[ndarray, "row column"]) -> float:
    """Give the probability of such an association or a stronger one without any.

    By Pearson's chi-square; rough where expected counts are below five. NaN as in `cramers_v`.
    """
    from scipy.special import gammaincc

    square, total, (rows, columns) = _mean_square(counts)
    if min(rows, columns) < 1:
        return math.nan
    return float(gammaincc(rows * columns / 2, square * total / 2))


def _mean_square(counts: Int[ndarray, "row column"]) -> tuple[float, int, tuple[int, int]]:
    """Give chi-square over n, n, and how many rows and columns are there beyond one."""
    counts = counts[counts.any(1)][:, counts.any(0)]
    total = int(counts.sum())
    expected = counts.sum(1, keepdims=True) * (counts.sum(0, keepdims=True) / max(total, 1))
    square = float(((counts - expected) ** 2 / expected).sum()) / max(total, 1)
    return square, total, (counts.shape[0] - 1, counts.shape[1] - 1)
