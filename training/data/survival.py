"""The outcomes of scans and of the bags of a batch, as the losses of a survival task read them.

Times are replaced by their ranks: partial likelihoods read no more of them, ties stay ties in any
precision. Intervals are cut on training patients alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from training.config_task import Survival
from training.data.outcomes import Outcome
from training.data.survival_folds import cuts as cuts
from training.data.survival_folds import problems as problems

Ints = npt.NDArray[np.int64]


class Cohort(NamedTuple):
    """The training patients, for risk sets that reach beyond a batch.

    They are ordered by stratum, then by time, at equal times events before censored ones. A moment
    is a time of a stratum at which one of them has the event. Place `len(patient)` means nobody.

    Attributes:
        patient: number of each training patient, in that order.
        strata: number of patients in each stratum that has some.
        rank: of each moment's time.
        stratum: of each moment.
        rest: place of the first patient at risk in a moment without an event in it.
        tied: places of the patients with an event in a moment, filled up with nobody.
    """

    patient: Int[Tensor, " patient"]
    strata: tuple[int, ...]
    rank: Int[Tensor, " moment"]
    stratum: Int[Tensor, " moment"]
    rest: Int[Tensor, " moment"]
    tied: Int[Tensor, "moment tie"]


class BagOutcomes(NamedTuple):
    """What became of the patients of bags.

    Attributes:
        rank: of the patient's time among the times of the fold; equal for equal times.
        event: True where the event happened.
        stratum: number of the stratum.
        patient: number of the patient.
        weight: share of the bag in its patient; the bags of a patient sum to one.
        survived: intervals that the patient survived.
        died: True where the event happened in the interval after these.
        ties: most patients whose events tie in a stratum, at least one.
        cohort: the training patients, where risk sets hold them all.
    """

    rank: Int[Tensor, " bag"]
    event: Bool[Tensor, " bag"]
    stratum: Int[Tensor, " bag"]
    patient: Int[Tensor, " bag"]
    weight: Float[Tensor, " bag"]
    survived: Int[Tensor, " bag"]
    died: Bool[Tensor, " bag"]
    ties: int
    cohort: Cohort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOutcomes:
    """The outcome of each scan's patient; arrays have one entry per scan.

    Attributes:
        settings: of the task.
        time: to event or censoring.
        event: True where the event happened.
        stratum: number of the stratum.
        rank: of the time, equal for equal times.
        survived: intervals survived, see `intervals`; 0 without intervals.
        died: True where the event happened in the interval after these.
        patient: number of the patient.
        train: one scan of each training patient, in order of patients.
    """

    settings: Survival
    time: npt.NDArray[np.float64]
    event: npt.NDArray[np.bool_]
    stratum: Ints
    rank: Ints
    survived: Ints
    died: npt.NDArray[np.bool_]
    patient: Ints
    train: Ints


def tabulate(
    outcomes: Mapping[str, Outcome], table: pd.DataFrame, patient: Ints, settings: Survival
) -> ScanOutcomes:
    """Give each scan the outcome of its patient.

    Args:
        outcomes: by patient.
        table: a row per scan, with `patient` and `part`.
        patient: number of each scan's patient.
        settings: of the task.
    """
    each = [outcomes[name] for name in table["patient"]]
    time = np.array([outcome.time for outcome in each], np.float64)
    event = np.array([outcome.event for outcome in each], np.bool_)
    train = np.flatnonzero((table["part"] == "train").to_numpy())
    train = train[np.unique(patient[train], return_index=True)[1]]
    strata = {name: number for number, name in enumerate(sorted({each.stratum for each in each}))}
    survived, died = np.zeros(len(each), np.int64), np.zeros(len(each), np.bool_)
    if settings.loss == "discrete":
        ends = cuts(time[train][event[train]].tolist(), settings.num_intervals)
        survived, died = intervals(time, event, ends)
    return ScanOutcomes(
        settings=settings,
        time=time,
        event=event,
        stratum=np.array([strata[outcome.stratum] for outcome in each], np.int64),
        rank=np.unique(time, return_inverse=True)[1].astype(np.int64),
        survived=survived,
        died=died,
        patient=patient,
        train=train,
    )


def intervals(
    time: npt.NDArray[np.float64], event: npt.NDArray[np.bool_], ends: npt.NDArray[np.float64]
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Count the intervals that patients survived, and say who had the event in the next one.

    Who was censored survived the intervals whose middle was reached; who had the event after the
    last end survived all (as Gensheimer and Narasimhan, 2019).
    """
    middles = (ends + np.concatenate([[0.0], ends[:-1]])) / 2
    before = np.searchsorted(ends, time, side="left")
    survived = np.where(event, before, np.searchsorted(middles, time, side="right"))
    return survived.astype(np.int64), event & (before < len(ends))


def base_logits(scans: ScanOutcomes) -> list[float]:
    """Estimate the logit of each interval's hazard on the training patients, whatever their bags.

    log((d + 1/2) / (n + 1/2)) with d events in the interval and n patients who survived it: what
    the likelihood of hazards asks of a model that knows nothing, kept finite.
    """
    interval = np.arange(scans.settings.num_intervals)
    reached, died = scans.survived[scans.train, None], scans.died[scans.train, None]
    events = ((interval == reached) & died).sum(0)
    lived = (interval < reached).sum(0)
    found: list[float] = np.log((events + 0.5) / (lived + 0.5)).tolist()
    return found


def of_bags(
    scans: ScanOutcomes,
    rows: Ints,
    weight: npt.NDArray[np.float64],
    *,
    put: Callable[[np.ndarray], Tensor],
    cohort: Cohort | None = None,
) -> BagOutcomes:
    """Tell what became of the patients of these bags.

    Args:
        scans: all scans.
        rows: the scans that are the bags.
        weight: of the bags in the task loss of classes.
        put: makes a tensor where it is needed.
        cohort: the training patients, where risk sets hold them all.
    """
    patient, event = scans.patient[rows], scans.event[rows]
    moment = np.stack([scans.stratum[rows], scans.rank[rows], patient], axis=1)[event]
    tied = np.unique(np.unique(moment, axis=0)[:, :2], axis=0, return_counts=True)[1]
    return BagOutcomes(
        rank=put(scans.rank[rows]),
        event=put(event),
        stratum=put(scans.stratum[rows]),
        patient=put(patient),
        weight=put(weight / np.bincount(patient, weights=weight)[patient]),
        survived=put(scans.survived[rows]),
        died=put(scans.died[rows]),
        ties=int(tied.max(initial=1)),
        cohort=cohort,
    )


def cohort(scans: ScanOutcomes, put: Callable[[np.ndarray], Tensor]) -> Cohort:
    """Order the training patients, and list the moments of their events."""
    rows = scans.train
    rows = rows[np.lexsort((~scans.event[rows], scans.rank[rows], scans.stratum[rows]))]
    rank, event, stratum = scans.rank[rows], scans.event[rows], scans.stratum[rows]
    ends = np.cumsum(np.bincount(stratum))  # of the strata
    moments: dict[tuple[int, int], list[int]] = {}
    for place in np.flatnonzero(event).tolist():
        moments.setdefault((int(stratum[place]), int(rank[place])), []).append(place)
    nobody, ties = len(rows), max(len(places) for places in moments.values())
    rest = [
        places[-1] + 1 if places[-1] + 1 < ends[stratum] else nobody
        for (stratum, _), places in moments.items()
    ]
    return Cohort(
        patient=put(scans.patient[rows]),
        strata=tuple(count for count in np.bincount(stratum).tolist() if count),
        rank=put(np.array([rank for _, rank in moments], np.int64)),
        stratum=put(np.array([stratum for stratum, _ in moments], np.int64)),
        rest=put(np.array(rest, np.int64)),
        tied=put(
            np.array([[*it, *[nobody] * (ties - len(it))] for it in moments.values()], np.int64)
        ),
    )
