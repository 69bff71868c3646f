"""How far the attention of two scans agrees on the tissue places that both have.

Arrays are [..., tile], place by place; leading axes are measured apart. What is not defined is NaN.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Weights = Float[ndarray, "*group tile"]


def rank_correlation(first: Weights, second: Weights) -> Float[ndarray, "*group"]:
    """Compute Spearman's rank correlation, ties sharing their mean rank.

    NaN with fewer than two tiles, or where a side's weights are all equal.
    """
    if first.shape[-1] < 2:
        return np.full(first.shape[:-1], np.nan)
    a, b = (_centred_ranks(side) for side in (first, second))
    scale = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
    there = scale > 0
    found: Float[ndarray, "*group"] = np.where(
        there, (a * b).sum(-1) / np.where(there, scale, 1.0), np.nan
    )
    return found


def top_overlap(
    first: Weights, second: Weights, *, share: float = 0.05
) -> Float[ndarray, "*group"]:
    """Compute which share of the highest-weighted tiles of one side is so on the other too.

    The k highest of both sides are compared, k the share of the tiles, rounded, at least one; of
    equal weights the first count. Chance is k / tiles. NaN without tiles.
    """
    number = first.shape[-1]
    if not number:
        return np.full(first.shape[:-1], np.nan)
    count = max(1, round(share * number))
    chosen = []
    for side in (first, second):
        top = np.argsort(-side, axis=-1, kind="stable")[..., :count]
        here = np.zeros(side.shape, dtype=bool)
        np.put_along_axis(here, top, values=True, axis=-1)
        chosen.append(here)
    found: Float[ndarray, "*group"] = np.asarray((chosen[0] & chosen[1]).sum(-1) / count)
    return found


def _centred_ranks(weights: Weights) -> Weights:
    from scipy.stats import rankdata  # a second of start-up for all who do not measure this

    ranks = rankdata(weights, axis=-1)
    centred: Weights = ranks - ranks.mean(-1, keepdims=True)
    return centred
