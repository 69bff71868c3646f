"""How much of a classifier's gradient lies in the directions in which scanners differ."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Subspace(NamedTuple):
    """Orthonormal directions U, [feature, direction], and the share of squared length they hold."""

    axes: Float[ndarray, "feature direction"]
    share: float


def scanner_subspace(differences: Float[ndarray, "pair feature"], *, rank: int) -> Subspace:
    """Find the leading directions of differences between the scans of a slide.

    Right singular vectors of the differences as they are: a constant offset between two scanners is
    a direction, which centring would lose; the sign of a difference does not matter. Fewer
    directions than asked for where there are not so many, none where all differences are zero; the
    share is NaN then.

    Args:
        differences: x_a - x_b of the mean-pooled embeddings of two scans of a slide.
        rank: directions.
    """
    wide = differences.astype(np.float64)
    if not wide.any():
        return Subspace(np.zeros((differences.shape[1], 0)), float("nan"))
    _, values, axes = np.linalg.svd(wide, full_matrices=False)
    kept = min(rank, int((values > 1e-9 * values[0]).sum()))
    squares = np.square(values)
    return Subspace(axes[:kept].T, float(squares[:kept].sum() / squares.sum()))


def energy_share(
    gradients: Float[ndarray, "case class feature"], axes: Float[ndarray, "feature direction"]
) -> Float[ndarray, " case"]:
    """Compute sum over classes of ||U U^T g||^2 / sum of ||g||^2 of every case.

    Directions that a random gradient of dimension d knows nothing of hold rank / d of it. NaN where
    the gradient is zero.

    Args:
        gradients: g, one per output: a single one for a binary task.
        axes: U, orthonormal.
    """
    wide = gradients.astype(np.float64)
    total = np.square(wide).sum((1, 2))
    inside = np.square(wide @ axes).sum((1, 2))
    there = total > 0
    found: Float[ndarray, " case"] = np.where(there, inside / np.where(there, total, 1.0), np.nan)
    return found
