"""Linear erasure: directions of embeddings that tell groups, or the scans of a slide, apart."""

import numpy as np
import numpy.typing as npt
import torch

from training.data.input_map import Erasure
from training.data.moments import Features, Square
from training.errors import DataError

_COLLINEAR = 1e-10
"""A direction with less of the features' variance, compared with the largest, is rounding."""

_ROUNDING = 1e-12
"""An SD below this share of the mean is rounding."""

_UNCORRELATED = 1e-6
"""A direction whose correlation with the group is below this has nothing to erase."""


def leace(within: Square, mean: Features, which: npt.NDArray[np.int64]) -> Erasure:
    r"""Erase what is linearly predictive of the group, with least change of the embeddings.

    $r(x) = x - W^+ P_{W \Sigma_{xz}} W (x - E x)$ with $W = (\Sigma_{xx}^{1/2})^+$, the concept z
    one-hot and P the orthogonal projection on the columns' span. No linear predictor of the group
    is then better than a constant, on tiles and on the means of scans.

    Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff and Biderman, NeurIPS 2023, theorem 4.3.
    Moments are those of tiles with each scan counting once; `concept_erasure` has no weights, hence
    the closed form here. It is computed on standardised features, which leaves r as it is and keeps
    it accurate in float32. Without the package's shrinkage of the covariance, which guards against
    fewer tiles than features: there, $W$ is a pseudoinverse and the guarantee holds.

    Args:
        within: mean covariance of a scan's tiles.
        mean: tile mean of each scan.
        which: group number of each scan.
    """
    centre = mean.mean(0)
    apart = torch.from_numpy(mean - centre)
    concept = torch.nn.functional.one_hot(torch.from_numpy(which)).to(torch.float64)
    covariance, mean_x = within + apart.T @ apart / len(mean), torch.from_numpy(centre)
    spread = covariance.diagonal().sqrt()
    spread = torch.where(spread > _ROUNDING * mean_x.abs(), spread, 1.0)
    cross = apart.T @ (concept - concept.mean(0)) / spread[:, None] / len(mean)
    values, vectors = torch.linalg.eigh(covariance / spread / spread[:, None])
    real = values > values[-1] * _COLLINEAR
    root, vectors = values[real].sqrt(), vectors[:, real]
    spans, size, _ = torch.linalg.svd(vectors.T @ cross / root[:, None], full_matrices=False)
    spans = spans[:, size > _UNCORRELATED]
    return Erasure(
        left=spread[:, None] * (vectors @ (root[:, None] * spans)),
        right=(spans.T / root) @ vectors.T / spread,
        mean=mean_x,
    )


def paired_erasure(square: Square | None, mean: npt.NDArray[np.float64], rank: int) -> Erasure:
    r"""Project out the first principal directions of the differences between scans of a slide.

    $x' = x - V V^\top (x - \mu)$, V the first `rank` eigenvectors of the second moment about zero
    of differences $x^a_t - x^b_t$ over shared tiles, each pair of scans counting once. About zero,
    since a move that all tiles of a scanner share is what is to be erased. Directions in which
    nothing differs stay. With `pairs: augmented` a pair is a scan and a view made from it.

    Args:
        square: that second moment; None where no pair shares a tile.
        mean: mean over scans of their tile means.
        rank: directions to project out.
    """
    if square is None:
        raise DataError("paired_erasure: no two scans of a training slide share a tile number")
    values, vectors = torch.linalg.eigh(square)
    real = values > values[-1] * len(values) * torch.finfo(torch.float64).eps
    first = vectors[:, real].flip(1)[:, :rank].contiguous()
    return Erasure(left=first, right=first.T.contiguous(), mean=torch.from_numpy(mean))
