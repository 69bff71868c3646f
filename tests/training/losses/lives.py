"""Bags of patients with times and events, for tests of survival losses; and slow likelihoods."""

from dataclasses import dataclass

import numpy as np
import torch

from training.config_task import Survival
from training.data import survival
from training.data.survival import BagOutcomes, Cohort, ScanOutcomes


@dataclass
class Lives:
    """A row per patient, and how many bags each has."""

    time: np.ndarray
    event: np.ndarray
    stratum: np.ndarray
    bags: np.ndarray

    @property
    def patient(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.time)), self.bags)

    def scans(self, **settings: object) -> ScanOutcomes:
        given = Survival.model_validate(settings)
        patient = self.patient
        time, event = self.time[patient].astype(float), self.event[patient].astype(bool)
        survived, died = np.zeros(len(patient), np.int64), np.zeros(len(patient), bool)
        if given.loss == "discrete":
            ends = survival.cuts(self.time[self.event].tolist(), given.num_intervals)
            survived, died = survival.intervals(time, event, ends)
        return ScanOutcomes(
            settings=given,
            time=time,
            event=event,
            stratum=self.stratum[patient],
            rank=np.unique(time, return_inverse=True)[1].astype(np.int64),
            survived=survived,
            died=died,
            patient=patient,
            train=np.unique(patient, return_index=True)[1],
        )

    def outcomes(self, **settings: object) -> BagOutcomes:
        return outcomes(self.scans(**settings))


def outcomes(
    scans: ScanOutcomes, rows: np.ndarray | None = None, cohort: Cohort | None = None
) -> BagOutcomes:
    """Of these scans, or of all."""
    rows = np.arange(len(scans.time)) if rows is None else rows
    weights = np.ones(len(rows))
    return survival.of_bags(scans, rows, weights, put=torch.from_numpy, cohort=cohort)


def random(
    seed: int,
    num: int = 12,
    *,
    times: int | None = 5,
    strata: int = 2,
    bags: int = 1,
    events: float = 0.6,
) -> Lives:
    """Patients with up to `times` different times (None: no ties) and 1 to `bags` bags."""
    draw = np.random.default_rng(seed)
    time = draw.permutation(num) + 1 if times is None else draw.integers(1, times + 1, num)
    return Lives(
        time.astype(float),
        draw.random(num) < events,
        draw.integers(0, strata, num),
        draw.integers(1, bags + 1, num),
    )


def scores(seed: int, num: int, columns: int = 1) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng([seed, 1]).normal(size=(num, columns)))


def slow_cox(lives: Lives, risk: np.ndarray, ties: str) -> float:
    """The mean over events of the likelihood's terms, bag by bag, with plain sums."""
    patient, total = lives.patient, 0.0
    for p in np.flatnonzero(lives.event):
        own = np.flatnonzero(patient == p)
        peers = [
            q
            for q in range(len(lives.time))
            if q != p and lives.stratum[q] == lives.stratum[p] and lives.time[q] >= lives.time[p]
        ]
        tied = [q for q in peers if lives.event[q] and lives.time[q] == lives.time[p]]
        hazard = {q: np.exp(risk[patient == q]).mean() for q in peers}
        d = len(tied) + 1
        for i in own:
            everyone = np.exp(risk[i]) + sum(hazard.values())
            dying = np.exp(risk[i]) + sum(hazard[q] for q in tied)
            steps = range(d) if ties == "efron" else [0] * d
            term = np.mean([np.log(everyone - step / d * dying) for step in steps]) - risk[i]
            total += term / len(own)
    return total / max(lives.event.sum(), 1)
