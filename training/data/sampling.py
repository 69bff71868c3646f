"""Which scans and which tiles make each batch.

Everything is drawn from (draw_seed, fold, epoch, step) and a name, never from a trial's seed: all
lanes and all arms see the same bags in the same order. Pairs have draws of their own, so that an
arm with pairs draws the same routine bags and tiles as an arm without.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training import seeds
from training.config import Sampling
from training.data.scans import Scans
from training.errors import DataError

Rows = npt.NDArray[np.int64]
"""Row numbers of scans, or numbers of tiles inside a bag."""

Key = tuple[int, ...]
"""Names a place in training: draw_seed, fold, epoch, and where it matters the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What can be drawn.

    Attributes:
        routine: the routine scan of each training slide, on seen scanners.
        pairs: per pair of scanners, in order of their names, [slides, 2] scans of the slides that
            both scanned; empty where only routine scans are used. A scan of an unknown scanner is
            in no pair. With `pairs: augmented`, per scanner and number of the view, [slides, 2]
            scan and view; scans of unknown scanners are together.
    """

    routine: Rows
    pairs: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The scans of a batch.

    Attributes:
        routine: [bags].
        pairs: [pairs, 2]; a scan twice stands for two draws of its tiles.
        key: names the step.
        partner: [pairs], the pair whose second scan is compared with the first of this one; None:
            its own; empty: pair losses compare nothing.
    """

    routine: Rows
    pairs: Rows
    key: Key
    partner: Rows | None = None


class TilePair(NamedTuple):
    """Tiles of the two scans of a slide; the first `matched` of both are the same tissue places."""

    first: Rows
    second: Rows
    matched: int


def pool(scans: Scans, *, paired: bool, augmented: bool = False) -> Pool:
    """List the routine scans, and if `paired` the pairs, of the training patients.

    Pairs are of two scans, or if `augmented` of a scan and a view made from it: per scanner, the
    first views of the scans, then the second ones, and so on.

    Raises:
        DataError: No routine scan on a seen scanner, or no pair where pairs are wanted.
    """
    train = scans.of("train", seen_only=True)
    routine = train[scans.table["routine"].to_numpy(bool)[train]]
    if not len(routine):
        raise DataError(
            "no routine scan of a training patient is on a seen scanner",
            hint="name fewer unseen_scanners",
        )
    pairs: tuple[Rows, ...] = ()
    if paired:
        pairs = _with_views(scans, train) if augmented else _pairs(scans, train)
    if paired and augmented and not pairs:
        raise DataError(
            "pairs is 'augmented', but no training scan on a seen scanner has an augmented view",
            hint="write views with a source_scan into the index, or use other pairs",
        )
    if paired and not pairs:
        raise DataError(
            "views is 'all', but no training slide has scans on two seen scanners",
            hint="use views: routine without robustness losses, or name fewer unseen_scanners",
        )
    return Pool(routine=routine, pairs=pairs)


def _pairs(scans: Scans, train: Rows) -> tuple[Rows, ...]:
    """Collect, per pair of scanners, the first scan of each slide on both."""
    first: dict[str, dict[int, int]] = {}
    known = train[(scans.table["scanner"] != "").to_numpy()[train]]
    for row, slide in zip(known.tolist(), scans.table["slide"].to_numpy()[known], strict=True):
        first.setdefault(slide, {}).setdefault(int(scans.scanner[row]), row)
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for on in first.values():
        for a, b in itertools.combinations(sorted(on), 2):
            found.setdefault((a, b), []).append((on[a], on[b]))
    return tuple(np.array(found[pair], np.int64) for pair in sorted(found))


def _with_views(scans: Scans, train: Rows) -> tuple[Rows, ...]:
    """Collect, per scanner and number of the view, each slide's first scan there that has views."""
    sources, slides, names = (
        scans.table[name].astype(str).tolist() for name in ("source_scan", "slide", "scan")
    )
    made: dict[str, list[int]] = {}
    for row in np.flatnonzero(scans.table["part"] == "augmented").tolist():
        made.setdefault(sources[row], []).append(row)
    first: dict[tuple[str, int], int] = {}
    for row in train.tolist():
        if names[row] in made:
            first.setdefault((slides[row], int(scans.scanner[row])), row)
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (_, scanner), row in first.items():
        for number, view in enumerate(made[names[row]]):
            found.setdefault((scanner, number), []).append((row, view))
    return tuple(np.array(found[each], np.int64) for each in sorted(found))


def steps_per_epoch(pool: Pool, sampling: Sampling) -> int:
    """Count the batches of an epoch: one pass over the routine scans, nothing dropped."""
    return math.ceil(len(pool.routine) / sampling.slides_per_batch)


def epoch(pool: Pool, sampling: Sampling, *, key: Key) -> Iterator[Draw]:
    """Draw the batches of an epoch.

    Each batch has the next `slides_per_batch` routine scans of a shuffled order. Where there are
    pairs, one pair of scanners is drawn per batch, and then m = min(n, `pairs_per_batch`) of its n
    slides without replacement. The pair's probability is proportional to n / m, so that every slide
    of every pair of scanners is drawn equally often.

    Args:
        pool: what can be drawn.
        sampling: sizes.
        key: (draw_seed, fold, epoch).
    """
    order = seeds.generator(*key, "order").permutation(pool.routine)
    for step, start in enumerate(range(0, len(order), sampling.slides_per_batch)):
        here = (*key, step)
        yield Draw(
            routine=order[start : start + sampling.slides_per_batch],
            pairs=_draw_pairs(pool, sampling.pairs_per_batch, here),
            key=here,
        )


def _draw_pairs(pool: Pool, num_pairs: int, key: Key) -> Rows:
    if not pool.pairs:
        return np.empty((0, 2), np.int64)
    generator = seeds.generator(*key, "pairs")
    # n / min(n, num_pairs), times num_pairs to stay with whole numbers.
    ends = np.cumsum([max(len(slides), num_pairs) for slides in pool.pairs])
    chosen = pool.pairs[int(np.searchsorted(ends, generator.integers(ends[-1]), side="right"))]
    return generator.permutation(chosen)[:num_pairs]


def tiles(num_tiles: int, limit: int | None, *, key: Key, slide: str) -> Rows:
    """Draw the tiles of a bag without replacement; all of them in order if it has no more."""
    if limit is None or num_tiles <= limit:
        return np.arange(num_tiles)
    return seeds.generator(*key, "tiles", slide).choice(num_tiles, limit, replace=False)


def common(first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]) -> TilePair:
    """Find the tissue places that two scans share, by their tile numbers."""
    _, a, b = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return TilePair(a, b, len(a))


def pair_tiles(
    shared: TilePair, num_tiles: tuple[int, int], limit: int | None, *, key: Key, slide: str
) -> TilePair:
    """Draw the tiles of the two scans of a slide, shared places first and in the same order.

    With a limit, tiles are drawn among the shared places; a bag that these do not fill is filled up
    with other tiles of the scan, drawn for each scan on its own. A limit that neither bag exceeds
    is no limit.
    """
    chosen = tiles(shared.matched, limit, key=key, slide=f"pair {slide}")
    room = None if limit is None else limit - len(chosen)
    first, second = (
        np.concatenate(
            [places[chosen], _others(places, count, room, key=key, slide=f"pair {side} {slide}")]
        )
        for side, (places, count) in enumerate(zip(shared[:2], num_tiles, strict=True))
    )
    return TilePair(first, second, len(chosen))


def _others(places: Rows, num_tiles: int, room: int | None, *, key: Key, slide: str) -> Rows:
    """Draw tiles of a scan that are in none of the shared places."""
    if room == 0:
        return np.arange(0)
    alone = np.ones(num_tiles, bool)
    alone[places] = False
    others = np.flatnonzero(alone)
    return others[tiles(len(others), room, key=key, slide=slide)]
