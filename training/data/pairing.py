"""Draws of the controls: what pair losses compare in place of two scans of a slide.

Each is drawn from the batch's key and a name of its own, so that no draw of another arm moves.
"""

from dataclasses import replace

import numpy as np

from training import seeds
from training.data.sampling import Draw, Key, Rows, TilePair


def compare(draw: Draw, pairs: str, *, patient: Rows) -> Draw:
    """Change what pair losses compare in a batch, see `TrialConfig.pairs`.

    Args:
        draw: pairs of scans, or of scans and views.
        pairs: the mode.
        patient: patient number of every scan.
    """
    if pairs == "shuffled":
        return replace(draw, partner=partners(patient[draw.pairs[:, 0]], key=draw.key))
    if pairs == "same_scan":
        return replace(draw, pairs=one_scan(draw.pairs, key=draw.key))
    return draw


def one_scan(pairs: Rows, *, key: Key) -> Rows:
    """Choose one of the two scans of each pair, each equally likely, and give it twice.

    Args:
        pairs: [pairs, 2] scans.
        key: names the step.
    """
    side = seeds.generator(*key, "same scan").integers(2, size=len(pairs))
    chosen = pairs[np.arange(len(pairs)), side]
    return np.stack([chosen, chosen], axis=1)


def partners(patient: Rows, *, key: Key) -> Rows:
    """Draw for each pair the pair whose second scan is compared with its first; never its own.

    A random order in which a patient's pairs are neighbours, shifted in a circle by the largest
    number of pairs of a patient. So no patient meets itself as long as none has more than half of
    the pairs, and beyond that no more often than must be. One pair alone has no partner.

    Args:
        patient: number of each pair's patient.
        key: names the step.

    Returns:
        A permutation without fixed points; empty where there is one pair.
    """
    if len(patient) < 2:
        return np.empty(0, np.int64)
    generator = seeds.generator(*key, "shuffled pairs")
    number, counts = np.unique(patient, return_inverse=True, return_counts=True)[1:]
    rank = generator.permutation(len(counts))[number]
    order = np.lexsort([generator.permutation(len(patient)), rank])
    largest = int(counts.max())
    found = np.empty_like(order)
    found[order] = np.roll(order, -(largest if largest < len(patient) else 1))
    return found


def halves(num_tiles: int, limit: int | None, *, key: Key, slide: str) -> TilePair:
    """Draw two disjoint sets of a scan's tiles, each in the order of the bag.

    Both have min(limit, num_tiles // 2) tiles; the one tile of a bag of one comes twice. No tissue
    place is in both sets, so none is matched.

    Args:
        num_tiles: tiles of the scan.
        limit: tiles drawn per bag; None: half of them.
        key: names the step.
        slide: of the scan.
    """
    if num_tiles == 1:
        return TilePair(np.zeros(1, np.int64), np.zeros(1, np.int64), 0)
    each = min(num_tiles // 2, num_tiles if limit is None else limit)
    drawn = seeds.generator(*key, "halves", slide).permutation(num_tiles)
    return TilePair(np.sort(drawn[:each]), np.sort(drawn[each : 2 * each]), 0)
