"""What bag embeddings of held-out scans say of biology and of the scanner; pure.

    robustness_index            PathoROB's, over the 10 nearest neighbours among other patients
    average_performance_drop    PathoROB's, on designed splits of patients on two scanners: share of
                                accuracy that is lost where class goes with scanner in training
    scanner_auroc,              of a linear probe for the scanner that saw no scan of the patient;
    scanner_balanced_accuracy   chance is .5 and 1 / number of scanners
    effective_rank,             collapse checks, to stand beside any gain: exp(entropy of the
    retrieval, variance         spectrum); share of scans whose nearest neighbour is the slide's
                                other scan; mean variance of a unit

and lower bounds of the mutual information with scanner and label in nats, with permutation nulls
(`training.metrics.information`). Labels permute over patients, scanners within the slide, so that
biology stays. Scans of an unknown scanner are left out where others name theirs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from training import seeds
from training.metrics import representation
from training.metrics.designed_splits import performance_drop
from training.metrics.information import Information, information
from training.metrics.probe import probe

METRICS = (
    "robustness_index",
    "average_performance_drop",
    "scanner_auroc",
    "scanner_balanced_accuracy",
    "effective_rank",
    "retrieval",
    "variance",
)

NUM_DRAWS = 200
"""Permutations of a null."""

_NUM_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Scans:
    """The scans of rows of embeddings, by numbers from 0; `patient` is one of all trials'.

    Attributes:
        patient: number of the patient.
        slide: number of the slide.
        scanner: number of the scanner.
        label: class number; None where there are no classes.
        rows: rows of the embeddings that these are.
    """

    patient: np.ndarray
    slide: np.ndarray
    scanner: np.ndarray
    label: np.ndarray | None
    rows: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What embeddings came to: metrics, and the information on scanner and label."""

    metrics: dict[str, float]
    scanner: Information
    label: Information | None


def scans(table: pd.DataFrame, patients: pd.Index) -> Scans:
    """Number the scans of a trial, in the order of their views.

    Args:
        table: patient, slide, view, scanner, label; a label of -1 stands for none. Its index is the
            row of the embeddings.
        patients: names of all patients of the sweep, sorted.
    """
    known = table["scanner"].ne("")
    if known.any():
        table = table[known]
    table = table.sort_values("view", kind="stable")
    label = np.unique(table["label"], return_inverse=True)[1]
    return Scans(
        patient=patients.get_indexer(pd.Index(table["patient"])),
        slide=np.unique(table["slide"].astype(str), return_inverse=True)[1],
        scanner=np.unique(table["scanner"].astype(str), return_inverse=True)[1],
        label=None if (table["label"] < 0).any() else label,
        rows=table.index.to_numpy(),
    )


def measure(embeddings: np.ndarray, scans: Scans, *, fold: int) -> Measures:
    """Measure the embeddings of a trial.

    Probes and permutations are drawn from the fold: all arms and seeds of a fold have the same.

    Args:
        embeddings: [row, unit], rows in the order of the table that `scans` was made from.
        scans: which scans they are.
        fold: number of the fold.
    """
    wide = embeddings[scans.rows].astype(np.float64)
    found = probe(
        wide, scans.scanner, scans.patient, generator=seeds.generator(fold, "scanner probe")
    )
    metrics = {
        "robustness_index": np.nan,
        "average_performance_drop": np.nan,
        "scanner_auroc": found.auroc,
        "scanner_balanced_accuracy": found.balanced_accuracy,
        "effective_rank": representation.effective_rank(wide),
        "retrieval": representation.retrieval(wide, scans.slide, scans.scanner),
        "variance": float(wide.var(0).mean()),
    }
    label = None
    if scans.label is not None:
        metrics["robustness_index"] = representation.robustness_index(
            wide, scans.label, scans.scanner, num_neighbours=_NUM_NEIGHBOURS, own=scans.patient
        )
        metrics["average_performance_drop"] = performance_drop(
            wide,
            scans.label,
            scans.scanner,
            scans.patient,
            generator=seeds.generator(fold, "designed splits"),
        )
        label = information(
            wide,
            scans.label,
            scans.patient,
            generator=seeds.generator(fold, "label information"),
            num_draws=NUM_DRAWS,
        )
    scanner = information(
        wide,
        scans.scanner,
        scans.patient,
        generator=seeds.generator(fold, "scanner information"),
        block=scans.slide,
        num_draws=NUM_DRAWS,
    )
    return Measures(metrics=metrics, scanner=scanner, label=label)
