"""Linear probes: how well a group (scanner, site) or a label can be read off embeddings.

Every case is predicted by a probe that saw no case of its patient. Features are centred, rotated to
their leading principal components and scaled there, all fitted on the training part of a fold.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from training.metrics.accuracy import balanced_accuracy, multiclass_auroc


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a probe reads off; NaN where a class does not occur in every training part.

    Attributes:
        auroc: one class against the rest, averaged over classes, of the held-out scores together.
        balanced_accuracy: of the likeliest class; chance is 1 / number of classes.
        num_classes: classes of the target.
    """

    auroc: float
    balanced_accuracy: float
    num_classes: int


def probe(
    embeddings: Float[ndarray, "case feature"],
    target: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    *,
    generator: np.random.Generator,
    num_folds: int = 5,
    num_components: int | None = None,
    penalty: float = 1.0,
) -> Probe:
    """Predict the target by L2-penalised logistic regression, patients kept together.

    Args:
        embeddings: one per case (a scan, for example).
        target: class number, from 0, of what is to be read off.
        patient: number of each case's patient.
        generator: draws the folds.
        num_folds: folds over patients.
        num_components: principal components that the probe sees; default: all.
        penalty: of scikit-learn's objective, 1 / C, on standardised components.
    """
    from sklearn.linear_model import LogisticRegression  # most of a second of start-up

    num_classes = int(target.max(initial=0)) + 1
    scores = np.full((len(target), num_classes), np.nan)
    for train, test in folds(target, patient, generator=generator, num_folds=num_folds):
        if len(np.unique(target[train])) < num_classes or num_classes < 2:
            return Probe(auroc=np.nan, balanced_accuracy=np.nan, num_classes=num_classes)
        seen, held_out = standardised(embeddings, train, test, num_components=num_components)
        model = LogisticRegression(C=1 / penalty, max_iter=2000)
        scores[test] = model.fit(seen, target[train]).predict_log_proba(held_out)
    found = scores.argmax(1)
    return Probe(
        auroc=multiclass_auroc(target, scores),
        balanced_accuracy=balanced_accuracy(target, found, num_classes=num_classes),
        num_classes=num_classes,
    )


def folds(
    target: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    *,
    generator: np.random.Generator,
    num_folds: int,
) -> Iterator[tuple[Int[ndarray, " train"], Int[ndarray, " test"]]]:
    """Deal patients out to folds, those of one (first) class in turn; give training and test cases.

    Fewer folds where there are fewer patients; none with one patient.
    """
    _, first, number = np.unique(patient, return_index=True, return_inverse=True)
    shuffled = np.lexsort((generator.random(len(first)), target[first]))
    fold = np.empty(len(first), dtype=np.int64)
    fold[shuffled] = np.arange(len(first)) % num_folds
    for each in range(min(num_folds, len(first)) if len(first) > 1 else 0):
        test = fold[number] == each
        yield np.flatnonzero(~test), np.flatnonzero(test)


def standardised(
    embeddings: Float[ndarray, "case feature"],
    train: Int[ndarray, " train"],
    test: Int[ndarray, " test"],
    *,
    num_components: int | None,
) -> tuple[Float[ndarray, "train component"], Float[ndarray, "test component"]]:
    """Give both parts as principal components of the training part, of unit variance there.

    Components without variance are left out; there is one, of zeros, where none has any.
    """
    wide = embeddings.astype(np.float64)
    mean = wide[train].mean(0)
    _, values, axes = np.linalg.svd(wide[train] - mean, full_matrices=False)
    kept = int((values > 1e-9 * max(float(values[0]), 1e-300)).sum())
    kept = max(1, kept if num_components is None else min(kept, num_components))
    scale = np.where(values[:kept] > 0, values[:kept], 1.0) / np.sqrt(len(train))
    axes = axes[:kept].T / scale
    return (wide[train] - mean) @ axes, (wide[test] - mean) @ axes
