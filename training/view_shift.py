"""How far scores move from held-out scans to their augmented views: same biology, another look."""

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training import evaluation
from training.artefacts import Kept
from training.data.sampling import Rows
from training.data.scans import Scans
from training.evaluation import Scored
from training.metrics.controlled_shift import distance
from training.session import Session

log = logging.getLogger(__name__)

NAME = "view_shift"
"""Column of the table of trials."""


def added(
    session: Session, kept: Sequence[Kept | None], rows: Rows, scores: Scored
) -> list[Kept | None]:
    """Score the views of held-out scans, and add to what lanes leave how far they lie from these.

    Args:
        session: with the chosen weights in place.
        kept: what the lanes leave.
        rows: the held-out scans.
        scores: of these, [lane, scan, class].
    """
    views = session.scans.of("view", seen_only=False)
    if not len(views):
        log.warning("no held-out scan has an augmented view: nothing tells how far scores move")
        return list(kept)
    moved = evaluation.score(session.lanes, session.loader, views, session.num_tiles)
    found: list[Kept | None] = []
    for lane, its in enumerate(kept):
        value = math.nan
        # A mean over the scans of a slide is not what a view of one scan is to be compared with.
        if its is not None and session.configs[lane].test_time == "each_scan":
            value = view_shift(session.scans, rows, scores[lane], views, moved[lane])
        found.append(its and dataclasses.replace(its, measured=its.measured | {NAME: value}))
    return found


def view_shift(scans: Scans, rows: Rows, scores: Scored, views: Rows, moved: Scored) -> float:
    """Say how far a lane's scores move from scans to the views made from them.

    The controlled shift of `training.metrics.controlled_shift.distance`, in SDs of the scans'
    scores: the scan is the reference, its views stand for scanners. Scores of several classes are
    centred over the classes, compared class by class, and averaged. NaN with fewer than two scans
    that have views.

    Args:
        scans: of the fold.
        rows: scans that were scored.
        scores: of these, [scan, class].
        views: rows of their views.
        moved: the scores of these, [view, class].
    """
    names = {name: place for place, name in enumerate(scans.table["scan"].to_numpy()[rows])}
    scan = np.array([names[name] for name in scans.table["source_scan"].to_numpy()[views]])
    order = np.argsort(scan, kind="stable")
    nth = np.empty_like(scan)
    nth[order] = np.arange(len(scan)) - np.searchsorted(scan[order], scan[order])
    reference = _compared(scans, scores)
    dense = np.full((*reference.shape, nth.max() + 1), np.nan)
    dense[:, scan, nth] = _compared(scans, moved)
    return float(distance(dense, reference).mean())


def _compared(scans: Scans, scores: Scored) -> npt.NDArray[np.float64]:
    """Give scores as they are compared, [class, scan]."""
    wide = (scores if scans.outcomes is None else evaluation.risks(scores)).astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True) if wide.shape[1] > 1 else wide
    return np.asarray(centred.T)
