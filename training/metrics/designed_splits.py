"""What it costs that a class goes with a scanner, on training sets that are designed so.

Kömen et al., PathoROB, 2025 (arXiv 2507.17845), for glass that several scanners have scanned: all
training sets of a repetition hold the same patients, and only the scanner that each is seen through
changes. So a drop is the scanner's, not that of other patients.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from training.metrics.accuracy import balanced_accuracy
from training.metrics.probe import standardised
from training.metrics.representation import average_performance_drop

SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)
"""Share of a class's training patients on the class's scanner; the first is the unbiased one."""

_FEWEST = 2
"""Patients of a class in a training set, and in a test set, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """Rows of two classes on two scanners: training sets, one a share, and one test set."""

    train: tuple[Int[ndarray, " train"], ...]
    test: Int[ndarray, " test"]


def performance_drop(
    embeddings: Float[ndarray, "case feature"],
    label: Int[ndarray, " case"],
    scanner: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    *,
    generator: np.random.Generator,
    num_trials: int = 20,
) -> float:
    """Compute the average performance drop; 0 where a confounded training set costs nothing.

    The mean over `designed` repetitions of the balanced accuracy of logistic regression after
    training on each biased set, over that after the unbiased set, minus 1. Departures: one penalty
    (1 on standardised components) in place of a grid; the pairs of classes and of scanners take
    turns.

    Args:
        embeddings: one per case.
        label: class number.
        scanner: scanner number.
        patient: number of the patient.
        generator: draws the repetitions.
        num_trials: repetitions.

    Returns:
        NaN where no two classes have enough patients on the same two scanners.
    """
    found = []
    for one in designed(label, scanner, patient, generator=generator, num_trials=num_trials):
        told = (label[one.test] == label[one.test].max()).astype(np.int64)
        found.append([_accuracy(embeddings, label, train, one.test, told) for train in one.train])
    return average_performance_drop(np.array(found).reshape(-1, len(SHARES)).T)


def designed(
    label: Int[ndarray, " case"],
    scanner: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    *,
    generator: np.random.Generator,
    num_trials: int,
) -> Iterator[Repetition]:
    """Design repetitions; none where the cases do not allow it.

    Each has two classes and two scanners. Of the patients of a class that both scanners have
    scanned, equally many of both classes, about half train, the others test. To train, a share of a
    class is seen through its own scanner and the rest through the other one, and so in the other
    class with scanners exchanged; who changes the scanner for a larger share is nested. Tests are
    seen through both. A patient's first case on a scanner counts.

    Args:
        label: class number.
        scanner: scanner number.
        patient: number of the patient.
        generator: draws them.
        num_trials: repetitions.
    """
    first: dict[tuple[int, int], int] = {}
    for row, place in enumerate(zip(patient.tolist(), scanner.tolist(), strict=True)):
        first.setdefault(place, row)
    of = dict(zip(patient.tolist(), label.tolist(), strict=True))
    worlds = [
        (pair, members)
        for classes in itertools.combinations(sorted(set(of.values())), 2)
        for pair in itertools.combinations(np.unique(scanner).tolist(), 2)
        if (members := _members(of, first, classes, pair)) is not None
    ]
    for number in range(num_trials if worlds else 0):
        pair, members = worlds[number % len(worlds)]
        yield _repetition(pair, members, first, generator=generator)


def _members(
    of: dict[int, int],
    first: dict[tuple[int, int], int],
    classes: tuple[int, int],
    pair: tuple[int, int],
) -> list[list[int]] | None:
    """List the patients of each class that both scanners have; None where they are too few."""
    both = [p for p in sorted(of) if (p, pair[0]) in first and (p, pair[1]) in first]
    members = [[p for p in both if of[p] == each] for each in classes]
    return members if min(map(len, members)) >= 2 * _FEWEST else None


def _repetition(
    pair: tuple[int, int],
    members: list[list[int]],
    first: dict[tuple[int, int], int],
    *,
    generator: np.random.Generator,
) -> Repetition:
    size = min(map(len, members))
    half = size // 4 * 2  # even, so that the first set is unbiased
    train: list[list[int]] = [[] for _ in SHARES]
    test: list[int] = []
    for patients, (own, other) in zip(members, (pair, pair[::-1]), strict=True):
        drawn = [patients[place] for place in generator.permutation(len(patients))[:size]]
        test += [first[one, each] for one in drawn[half:] for each in pair]
        for rows, share in zip(train, SHARES, strict=True):
            count = int(np.ceil(share * half - 1e-9))
            rows += [first[one, own] for one in drawn[:count]]
            rows += [first[one, other] for one in drawn[count:half]]
    return Repetition(train=tuple(np.array(rows) for rows in train), test=np.array(test))


def _accuracy(
    embeddings: Float[ndarray, "case feature"],
    label: Int[ndarray, " case"],
    train: Int[ndarray, " train"],
    test: Int[ndarray, " test"],
    told: Int[ndarray, " test"],
) -> float:
    """Train on some cases and give the balanced accuracy on the others."""
    from sklearn.linear_model import LogisticRegression  # most of a second of start-up

    seen, held_out = standardised(embeddings, train, test, num_components=None)
    model = LogisticRegression(max_iter=2000).fit(seen, label[train] == label[train].max())
    found = model.predict(held_out).astype(np.int64)
    return balanced_accuracy(told, found, num_classes=2)
