"""How much embeddings tell of the scanner and of the label, in nats, and what a method took away.

`information` bounds the mutual information I(Z; T) of embeddings Z and a target T from below:
I(Z; T) >= H(T) - E[-log q(T | Z)] for every probe q (Barber and Agakov, NIPS 2003), here the linear
one of `reader`, whose held-out predictions count. It says at least how much a linear reader finds.
A probe that learns noise makes the bound negative. Its null is the same estimate on permuted
targets.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from training.metrics import reader
from training.metrics.probe import folds

_LEVEL = 0.05
"""A bound counts as information where at most this share of the null reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """A lower bound of I(Z; T) with its permutation null.

    Attributes:
        target: class number of each case.
        patient: patient number of each case.
        log_chance: held-out log q(target | embedding) of each case.
        null: the bound on permuted targets, one per draw; empty where it is not defined.
        reason: why the null is not defined; empty where it is.
    """

    target: Int[ndarray, " case"]
    patient: Int[ndarray, " case"]
    log_chance: Float[ndarray, " case"]
    null: Float[ndarray, " draw"]
    reason: str = ""

    @property
    def entropy(self) -> float:
        """H(T) of the cases."""
        return float(_entropy(self.target, np.ones((1, len(self.target))))[0])

    @property
    def bound(self) -> float:
        """The lower bound; below zero where the probe does worse than the class shares."""
        return self.entropy + float(self.log_chance.mean())

    @property
    def p_value(self) -> float:
        """Share of the null at or above the bound, the bound itself among it; NaN without null."""
        return _p_value(self.bound, self.null)

    @property
    def above_null(self) -> bool:
        """Whether the bound is positive and few of the null's draws reach it."""
        return bool(self.p_value <= _LEVEL and self.bound > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """The mean over folds of the mean over seeds of bounds, with the null of that mean.

    Draw d of the null averages draw d of all: seeds of a fold must share its permutations, so that
    this is what a permutation of the targets does to the mean.

    Attributes:
        folds: of each fold, the bounds of its seeds; as many draws in all.
    """

    folds: tuple[tuple[Information, ...], ...]

    @property
    def reason(self) -> str:
        """Why there is no null; empty where there is one."""
        return next((each.reason for fold in self.folds for each in fold if each.reason), "")

    @property
    def entropy(self) -> float:
        """The mean of H(T)."""
        return float(np.mean([np.mean([each.entropy for each in fold]) for fold in self.folds]))

    @property
    def bound(self) -> float:
        """The mean of the lower bounds."""
        return float(np.mean([np.mean([each.bound for each in fold]) for fold in self.folds]))

    @property
    def null(self) -> Float[ndarray, " draw"]:
        """The same mean on permuted targets, one per draw; empty where one has none."""
        if self.reason:
            return np.empty(0)
        means = [np.mean([each.null for each in fold], axis=0) for fold in self.folds]
        mean: Float[ndarray, " draw"] = np.mean(means, axis=0)
        return mean

    @property
    def p_value(self) -> float:
        """As that of `Information`."""
        return _p_value(self.bound, self.null)

    @property
    def above_null(self) -> bool:
        """As that of `Information`."""
        return bool(self.p_value <= _LEVEL and self.bound > 0)

    @property
    def patient(self) -> Int[ndarray, " case"]:
        """Patient of every case of every fold."""
        return np.concatenate([each.patient for fold in self.folds for each in fold])


@dataclass(frozen=True, slots=True, kw_only=True)
class Selectivity:
    """Relative drop of scanner information minus relative drop of label information.

    Attributes:
        value: 1 where all scanner information and no label information went, 0 where both fell
            alike, negative where the label lost more; NaN where refused.
        low: end of the 95 % percentile interval over patients.
        high: its other end.
        reason: why value or interval is NaN; empty where neither is.
    """

    value: float
    low: float
    high: float
    reason: str = ""


Told = Information | Averaged
"""What embeddings tell of a target, those of one model or of the models of a cell."""


def information(
    embeddings: Float[ndarray, "case feature"],
    target: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    *,
    generator: np.random.Generator,
    block: Int[ndarray, " case"] | None = None,
    num_draws: int = 200,
    num_folds: int = 5,
) -> Information:
    """Bound I(Z; T) from below with a cross-fitted linear probe.

    Time grows with the third power of the cases, memory with their square and with cases × draws.

    Args:
        embeddings: one per case.
        target: class number of each case, from 0.
        patient: number of the patient; no probe predicts a patient that it saw.
        generator: draws folds and permutations.
        block: targets are permuted within blocks: the slide where the target is the scanner, so
            that biology stays as it is; cases alone in their block keep their target. Default:
            targets are permuted over patients, all cases of a patient keeping one target, which is
            for a label.
        num_draws: permutations; 0 for none.
        num_folds: folds over patients.
    """
    num_classes = int(target.max(initial=0)) + 1
    permuted, reason = _permuted(target, patient, block, num_draws, generator)
    targets = np.concatenate([target[None], permuted])
    chance = np.full(targets.shape, np.nan)
    # Folds that knew the target would balance it, and not its permutations.
    anyone = np.zeros_like(target)
    for train, test in folds(anyone, patient, generator=generator, num_folds=num_folds):
        logits = reader.read(
            embeddings[train],
            targets[:, train],
            patient[train],
            embeddings[test],
            num_classes=num_classes,
        )
        right = np.take_along_axis(logits, targets[:, test, None], axis=2)[..., 0]
        chance[:, test] = right - np.logaddexp.reduce(logits, axis=2)
    entropy = [_entropy(each, np.ones((1, len(target))))[0] for each in permuted]
    null = np.array(entropy) + chance[1:].mean(1)
    return Information(
        target=target, patient=patient, log_chance=chance[0], null=null, reason=reason
    )


def selectivity(
    *,
    scanner: tuple[Told, Told],
    label: tuple[Told, Told],
    generator: np.random.Generator,
    num_draws: int = 2000,
) -> Selectivity:
    """Compare how much information of the scanner and of the label a method took away.

    (1 - M' / M) - (1 - Y' / Y), with M and Y the bounds for scanner and label before (a plain
    model) and M', Y' after; bounds below zero count as zero. The interval resamples patients, the
    same ones in all four, with the probes' predictions as they are. A label that was told before
    and is not any more costs its whole drop; it is not refused.

    Args:
        scanner: before and after.
        label: before and after.
        generator: draws the patients.
        num_draws: resamples.
    """
    for name, before in (("scanner", scanner[0]), ("label", label[0])):
        if not before.above_null:
            why = before.reason or f"bound {before.bound:.3g} nats, p {before.p_value:.2g}"
            text = f"the {name}'s information before is not above its null: {why}"
            return Selectivity(value=np.nan, low=np.nan, high=np.nan, reason=text)
    everyone = np.unique(np.concatenate([each.patient for each in (*scanner, *label)]))
    number = len(everyone)
    counts = generator.multinomial(number, np.full(number, 1 / number), num_draws)
    weights = np.concatenate([np.ones((1, number)), counts])
    bounds = [_resampled(each, everyone, weights) for each in (*scanner, *label)]
    drops = [_drop(bounds[0], bounds[1]), _drop(bounds[2], bounds[3])]
    found = drops[0] - drops[1]
    drawn = found[1:][~np.isnan(found[1:])]
    if len(drawn) < 0.95 * num_draws:
        text = "more than 5 % of the resamples have no information before"
        return Selectivity(value=float(found[0]), low=np.nan, high=np.nan, reason=text)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Selectivity(value=float(found[0]), low=float(low), high=float(high))


def _drop(before: Float[ndarray, " draw"], after: Float[ndarray, " draw"]) -> ndarray:
    told = before > 0
    kept: ndarray = np.maximum(after, 0) / np.where(told, before, 1.0)
    return np.where(told, 1 - kept, np.nan)


def _p_value(bound: float, null: Float[ndarray, " draw"]) -> float:
    if not len(null) or np.isnan(bound):
        return float("nan")
    return float((1 + (null >= bound).sum()) / (1 + len(null)))


def _resampled(
    found: Told, everyone: Int[ndarray, " patient"], weights: Float[ndarray, "draw patient"]
) -> Float[ndarray, " draw"]:
    """Compute the bound with patients weighted."""
    if isinstance(found, Averaged):
        folds = [
            np.mean([_resampled(each, everyone, weights) for each in fold], axis=0)
            for fold in found.folds
        ]
        mean: Float[ndarray, " draw"] = np.mean(folds, axis=0)
        return mean
    own = weights[:, np.searchsorted(everyone, found.patient)]
    total = own.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        bound: Float[ndarray, " draw"] = (
            _entropy(found.target, own) + own @ found.log_chance / total
        )
    return bound


def _entropy(
    target: Int[ndarray, " case"], weights: Float[ndarray, "draw case"]
) -> Float[ndarray, " draw"]:
    share = weights @ (target[:, None] == np.arange(target.max(initial=0) + 1)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = share / share.sum(1, keepdims=True)
        found: Float[ndarray, " draw"] = -np.where(share > 0, share * np.log(share), 0.0).sum(1)
    return found


def _permuted(
    target: Int[ndarray, " case"],
    patient: Int[ndarray, " case"],
    block: Int[ndarray, " case"] | None,
    num_draws: int,
    generator: np.random.Generator,
) -> tuple[Int[ndarray, "draw case"], str]:
    """Draw permuted targets, and say why there are none."""
    none = np.empty((0, len(target)), dtype=target.dtype)
    if block is None:
        _, first, number = np.unique(patient, return_index=True, return_inverse=True)
        if (target[first][number] != target).any():
            return none, "a patient has several targets, and no blocks to permute in are given"
        if len(np.unique(target)) < 2:
            return none, "there is one class only"
        drawn = generator.random((num_draws, len(first))).argsort(1)
        return target[first][drawn][:, number], ""
    order = np.argsort(block, kind="stable")
    ordered = block[order]
    same = ordered[1:] == ordered[:-1]
    if not (same & (target[order][1:] != target[order][:-1])).any():
        return none, "no block has two targets"
    place = np.unique(ordered, return_inverse=True)[1]
    drawn = (place + generator.random((num_draws, len(target)))).argsort(1)
    permuted = np.empty((num_draws, len(target)), dtype=target.dtype)
    permuted[:, order] = target[order][drawn]
    return permuted, ""
