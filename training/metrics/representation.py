"""What embeddings say of biology and of the scanner, by neighbours and by their spectrum.

What is not defined is NaN. Neighbours are by cosine; of equally near ones the first counts.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_NUMBERS = 2**23
"""Similarities in memory at once."""


def robustness_index(
    embeddings: Float[ndarray, "case feature"],
    biology: Int[ndarray, " case"],
    scanner: Int[ndarray, " case"],
    *,
    num_neighbours: int,
    own: Int[ndarray, " case"] | None = None,
) -> float:
    """Compute SO / (SO + OS) over the k nearest neighbours of all cases.

    SO counts neighbours of the same biology and another scanner (or site), OS those of other
    biology and the same scanner: 1 where biology rules the neighbourhood, 0 where the scanner does,
    NaN where there is neither. Kömen et al., PathoROB, 2025 (arXiv 2507.17845). Chance depends on
    the shares of the classes: to be compared on one set of cases only.

    Args:
        embeddings: one per case.
        biology: class number.
        scanner: scanner number, or that of any other group.
        num_neighbours: k; fewer where there are not so many others.
        own: number of the patient; cases of one patient are never neighbours, since a slide's other
            scan would be the nearest for a trivial reason. Default: only the case itself is not.
    """
    excluded = np.arange(len(embeddings)) if own is None else own
    same_other = other_same = 0
    for rows, near in _neighbours(embeddings, excluded, num_neighbours):
        real = near >= 0
        alike = biology[near] == biology[rows][:, None]
        within = scanner[near] == scanner[rows][:, None]
        same_other += int((real & alike & ~within).sum())
        other_same += int((real & ~alike & within).sum())
    total = same_other + other_same
    return same_other / total if total else float("nan")


def average_performance_drop(accuracy: Float[ndarray, "split trial"]) -> float:
    """Compute the mean over trials and biased splits of accuracy / that of the unbiased split - 1.

    Kömen et al., PathoROB, 2025 (arXiv 2507.17845): 0 where a confounded training set costs
    nothing, negative where it does.

    Args:
        accuracy: of the same tests after training on each split; the first split is unbiased, the
            others are more and more so. NaN where there is one split only.
    """
    if accuracy.shape[0] < 2 or accuracy.shape[1] < 1:
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(accuracy[0] > 0, accuracy[1:] / accuracy[0], np.nan)
    return float(relative.mean(0).mean() - 1)


def effective_rank(embeddings: Float[ndarray, "case feature"]) -> float:
    """Compute exp(entropy) of the singular values of the centred embeddings, divided by their sum.

    Roy and Vetterli, EUSIPCO 2007: between 1, where all lie on a line, and the number of features,
    where they spread alike in all directions; a collapse shows as a fall. NaN where all embeddings
    are equal. At most the number of cases less one: to be compared on one set of cases.
    """
    wide = embeddings.astype(np.float64)
    if len(wide) < 2:
        return float("nan")
    centred = wide - wide.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    if values[0] <= 1e-12 * max(1.0, float(np.abs(wide).max())):
        return float("nan")
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def retrieval(
    embeddings: Float[ndarray, "case feature"],
    slide: Int[ndarray, " case"],
    scanner: Int[ndarray, " case"],
    *,
    num_neighbours: int = 1,
) -> float:
    """Compute the share of scans whose k nearest neighbours hold the other scan of the slide.

    For each ordered pair of scanners, over the slides that both scanned: queries are scans of the
    first, candidates all scans of both but the query; the mean over pairs. NaN without a pair. As
    the top-k accuracy of the PLISM benchmark (Filiot et al., 2025), with slides for tiles.

    Args:
        embeddings: one per scan; one scan of a slide on a scanner.
        slide: slide number.
        scanner: scanner number.
        num_neighbours: k.
    """
    found = []
    for a in np.unique(scanner).tolist():
        for b in np.unique(scanner).tolist():
            if a != b:
                value = _retrieved(embeddings, slide, scanner, (a, b), num_neighbours)
                found += [value] if not np.isnan(value) else []
    return float(np.mean(found)) if found else float("nan")


def _retrieved(
    embeddings: Float[ndarray, "case feature"],
    slide: Int[ndarray, " case"],
    scanner: Int[ndarray, " case"],
    pair: tuple[int, int],
    num_neighbours: int,
) -> float:
    chosen = np.flatnonzero(np.isin(scanner, pair))
    shared = np.intersect1d(slide[scanner == pair[0]], slide[scanner == pair[1]])
    chosen = chosen[np.isin(slide[chosen], shared)]
    if not len(chosen):
        return float("nan")
    hits = np.zeros(len(chosen), dtype=bool)
    for rows, near in _neighbours(embeddings[chosen], np.arange(len(chosen)), num_neighbours):
        hits[rows] = ((near >= 0) & (slide[chosen][near] == slide[chosen][rows][:, None])).any(1)
    return float(hits[scanner[chosen] == pair[0]].mean())


def _neighbours(
    embeddings: Float[ndarray, "case feature"], own: Int[ndarray, " case"], num_neighbours: int
) -> list[tuple[ndarray, ndarray]]:
    """Give rows and their nearest neighbours that are not of the same `own`, -1 where none is."""
    wide = embeddings.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(length > 0, length, 1.0)
    number = len(unit)
    chunk, found = max(1, _NUMBERS // max(1, number)), []
    for start in range(0, number, chunk):
        rows = np.arange(start, min(start + chunk, number))
        likeness = unit[rows] @ unit.T
        likeness[own[rows][:, None] == own] = -np.inf
        near = np.argsort(-likeness, axis=1, kind="stable")[:, :num_neighbours]
        value = np.take_along_axis(likeness, near, axis=1)
        found.append((rows, np.where(np.isfinite(value), near, -1)))
    return found
