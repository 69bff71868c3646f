"""Losses that align the two scans of a slide and keep the units of the embedding apart.

Made for batches of thousands of augmented images; here a row is a slide (bag level) or a tissue
place (tile level) and the views are its scans, so that batches are small at bag level: correlations
of a few rows are noisy. Both run under `torch.func.vmap` over lanes.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Rows = Float[Tensor, "row embedding"]
Real = Bool[Tensor, " row"]


def barlow_twins(
    first: Rows, second: Rows, *, real: Real, off_diagonal: float
) -> Float[Tensor, ""]:
    r"""Ask for the identity as cross-correlation of the two scans' embeddings.

    $\sum_i (1 - C_{ii})^2 + \beta \sum_{i \ne j} C_{ij}^2$ with $C_{ij}$ the correlation over rows
    of unit i of the first scan and unit j of the second.

    Zbontar, Jing, Misra, LeCun and Deny, ICML 2021, equations 1 and 2; the variance has 1e-5 added,
    as the batch norm in the authors' code. Departures: no projector but the linear one of the
    configuration; the pair has no order in the paper either, but C is of (first, second).

    Args:
        first: embeddings of one scan.
        second: embeddings of the other, in the same order.
        real: rows that count; the rest may hold anything.
        off_diagonal: beta.
    """
    count = real.sum().clamp_min(1)
    scaled = [
        z * (z.square().sum(0) / count + 1e-5).rsqrt()
        for z in (_centred(z, real, count) for z in (first, second))
    ]
    squares = (scaled[0].T @ scaled[1] / count).square()
    diagonal = (scaled[0] * scaled[1]).sum(0) / count
    loss = (1 - diagonal).square().sum()
    loss = loss + off_diagonal * (squares.sum() - diagonal.square().sum())
    return loss * (count > 1) * real.any()


def vicreg(
    first: Rows,
    second: Rows,
    *,
    real: Real,
    invariance: float,
    variance: float,
    covariance: float,
) -> Float[Tensor, ""]:
    r"""Bring the scans together, keep the SD of each unit at one and the units uncorrelated.

    $\lambda s + \mu v + \nu c$ with $s$ the mean squared difference of the scans,
    $v = \frac12 \sum_z \frac1d \sum_j \max(0, 1 - \sqrt{\mathrm{Var}(z_j) + 10^{-4}})$ and
    $c = \sum_z \frac1d \sum_{i \ne j} \mathrm{Cov}(z)_{ij}^2$ over the two scans z.

    Bardes, Ponce and LeCun, ICLR 2022, equations 1 to 6, with the means of the authors' code, for
    which 25/25/1 was chosen: s is also averaged over units, v over the two scans.
    Departure: no expander but the linear projection of the configuration.

    Args:
        first: embeddings of one scan.
        second: embeddings of the other, in the same order.
        real: rows that count; the rest may hold anything.
        invariance: lambda.
        variance: mu.
        covariance: nu.
    """
    count = real.sum().clamp_min(1)
    a, b = (z.masked_fill(~real[:, None], 0.0) for z in (first, second))
    loss = invariance * (a - b).square().mean(-1).sum() / count
    several = (count > 1) * real.any()
    for z in (_centred(a, real, count), _centred(b, real, count)):
        spread = z.square().sum(0) / (count - 1).clamp_min(1)
        hinge = torch.relu(1 - (spread + 1e-4).sqrt()).mean()
        squares = (z.T @ z / (count - 1).clamp_min(1)).square()
        apart = (squares.sum() - spread.square().sum()) / z.shape[1]
        loss = loss + several * (variance / 2 * hinge + covariance * apart)
    return loss


def _centred(rows: Rows, real: Real, count: Float[Tensor, ""] | Tensor) -> Rows:
    """Subtract the mean over the rows that count; the others are zero."""
    kept = rows.masked_fill(~real[:, None], 0.0)
    return (kept - kept.sum(0) / count).masked_fill(~real[:, None], 0.0)
