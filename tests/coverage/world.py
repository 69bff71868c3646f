"""Fixed models and endless patients: what intervals should hold is known.

Two models score every patient on two scanners (one for survival and under the null, to save time).
A patient's difficulty is shared by both models and both scanners, so that scans of a patient and
models on a patient go together, as they do. The truth is the value on a cohort of a million
patients.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from orchestrator.measure_cases import Cases, Means
from training import seeds
from training.metrics.accuracy import auroc, balanced_accuracy
from training.metrics.concordance import harrell

SCANNERS = 2
MODELS = 2
PAIRS = 4
"""Pairs of equally good models, for the family under the null."""

METRICS = ("auroc", "balanced_accuracy", "concordance")

_TRUTH = 1_000_000
_TRUTH_PAIRS = 20_000
"""Patients of a part of the large cohort in which pairs are counted one by one."""

_SIGNAL = (1.5, 1.2)
_SHARED, _OWN, _SCANNER = 0.7, 0.6, 0.5
_OFFSET = (0.0, 0.3)
"""What a scanner adds to every score."""

_EVENTS = 0.35
"""Share of patients whose event is seen, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Patients that were drawn.

    Attributes:
        label: 0 or 1.
        score: [model, patient, scanner].
        time: to event or censoring.
        event: which it is.
        risk: [model, patient, scanner].
    """

    label: np.ndarray
    score: np.ndarray
    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray


def cohort(size: int, number: int, *, models: int = MODELS, null: bool = False) -> Cohort:
    """Draw patients; a million of them are the truth.

    Args:
        size: patients.
        number: of the draw.
        models: how many score them.
        null: all models equally good.
    """
    random = seeds.generator("coverage", int(null), size, number)
    label = (random.random(size) < 0.5).astype(np.int64)
    # One model of two is better; under the null all are as good as the first.
    signal = np.array([_SIGNAL[0 if null else m % 2] for m in range(models)])
    noise = _noise(random, models, size)
    score = signal[:, None, None] * (label - 0.5)[None, :, None] + noise + np.array(_OFFSET)
    hazard = random.normal(size=size)
    free, censored = random.exponential(np.exp(-hazard)), random.exponential(0.6, size=size)
    risk = 0.5 * signal[:, None, None] * hazard[None, :, None] + _noise(random, models, size)
    return Cohort(
        label=label, score=score, time=np.minimum(free, censored), event=free <= censored,
        risk=risk,
    )  # fmt: skip


def truth(kept: Path) -> dict[str, np.ndarray]:
    """Give each metric of each model on very many patients: the mean over scanners.

    Args:
        kept: file that holds it, or will.
    """
    if not kept.exists():
        found = {name: each.tolist() for name, each in _truth().items()}
        kept.write_text(json.dumps(found))
    return {name: np.array(each) for name, each in json.loads(kept.read_text()).items()}


def _truth() -> dict[str, np.ndarray]:
    large = cohort(_TRUTH, 0)
    found: dict[str, np.ndarray] = {}
    each = [
        [
            (auroc(large.label, own), balanced_accuracy(large.label, (own >= 0).astype(np.int64)))
            for own in score.T
        ]
        for score in large.score
    ]
    found["auroc"], found["balanced_accuracy"] = np.moveaxis(np.mean(each, axis=1), 1, 0)
    parts = [slice(start, start + _TRUTH_PAIRS) for start in range(0, _TRUTH // 2, _TRUTH_PAIRS)]
    found["concordance"] = np.array(
        [
            np.mean(
                [
                    harrell(large.time[part], large.event[part], own[part])
                    for own in risk.T[:1]
                    for part in parts
                ]
            )
            for risk in large.risk
        ]
    )
    return found


def cases(drawn: Cohort, *, survival: bool, scanners: int = SCANNERS) -> Cases:
    """Put patients into the form that trials are measured in."""
    score = (drawn.risk if survival else drawn.score)[:, :, :scanners]
    models, size, _ = score.shape
    trial, patient, scanner = (
        each.ravel() for each in np.indices((models, size, scanners), dtype=np.int64)
    )
    label = drawn.event.astype(np.int64) if survival else drawn.label
    means = Means(
        trial=trial, member=patient, scanner=scanner, label=label[patient],
        score=score.reshape(-1, 1),
        told=np.stack([drawn.time, drawn.event, drawn.event], axis=1)[patient],
    )  # fmt: skip
    return Cases(
        ids=pd.Index([f"model {m}" for m in range(models)]),
        scanners=pd.Index([f"scanner {s}" for s in range(scanners)]),
        seen=np.ones((models, scanners), dtype=bool),
        patient=means,
        slide=means,
        predicted=None if survival else (means.score[:, 0] >= 0).astype(np.int64),
        patients=pd.Index([f"{p:07d}" for p in range(size)]),
        owner=patient,
    )


def _noise(random: np.random.Generator, models: int, size: int) -> np.ndarray:
    shared = random.normal(size=(1, size, 1)) * _SHARED
    own = random.normal(size=(models, size, 1)) * _OWN
    scan = random.normal(size=(1, size, SCANNERS)) * _SCANNER
    return np.asarray(shared + own + scan)
