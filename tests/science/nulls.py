"""Where there is nothing to be won, does nobody win? Each check can fail.

What is null is chosen with care, since a loss may honestly do good where there is no scanner: a
regulariser can raise the AUROC of a small cohort, and a model that is less sensitive to which tiles
a scan has is less inconsistent. So, against the reference in the same cohorts,

1. without a scanner effect, scanners are exchangeable within a slide. Whatever an arm does, its
   scores must not move with the scanner less than the reference's (`scanner_ratio`, which shrinking
   and smoothing do not change), and it must not be better on the unseen scanner than on the seen
   ones (their difference in AUROC);
2. with shuffled training labels there is nothing to predict: the AUROC of every arm is one half, on
   seen scanners and on the unseen one;
3. with shuffled pairs the pair losses gain no accuracy, in any world, on seen scanners or on the
   unseen one. They may become less inconsistent: a shuffled pair still names two scanners, and to
   pull their scans together aligns the scanners' means.

Counted are the intervals in favour, and the largest t is looked at, so that neither many small nor
one large dishonesty passes. Chance is the same differences with random signs (`statistics`);
p-values are adjusted by Holm over all checks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from tests.science import statistics
from tests.science.settings import ARMS, HONEST, SHUFFLED_PAIRS, WORLDS
from tests.science.statistics import Chance
from tests.science.summary import Cohorts, others

NO_EFFECT, NO_LABELS = "no scanner effect", "shuffled labels"
UNSEEN = "unseen_scanner_auroc"
SEEN_AND_UNSEEN = (("auroc", "seen scanners"), (UNSEEN, "the unseen scanner"))

Asked = tuple[str, str, Chance]
"""A null, what was found in words with a place for the number, and what chance gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A null and whether it was honest."""

    name: str
    honest: bool
    text: str


def checks(cohorts: Cohorts) -> list[Check]:
    """Check every null."""
    asked = [*_no_effect(cohorts), *_no_labels(cohorts), *_shuffled_pairs(cohorts)]
    adjusted = statistics.holm(np.array([chance.p for _, _, chance in asked]))
    return [
        Check(
            name=name,
            honest=bool(p >= HONEST),
            text=f"{words.format(chance.found)} of {chance.num_arms} arms; chance gives "
            f"{chance.expected:.1f} (p = {chance.p:.4f}, {p:.3f} after Holm)",
        )
        for (name, words, chance), p in zip(asked, adjusted, strict=True)
    ]


def _no_effect(cohorts: Cohorts) -> list[Asked]:
    def moves(world: str, arm: str) -> ndarray:
        return -cohorts.against(world, arm, "scanner_ratio")

    def reaches(world: str, arm: str) -> ndarray:
        return cohorts.against(world, arm, UNSEEN) - cohorts.against(world, arm, "auroc")

    arms = [(NO_EFFECT, arm) for arm in others()]
    return [
        *_wins(f"{NO_EFFECT}: scores move less with the scanner", arms, moves),
        *_wins(f"{NO_EFFECT}: better on the unseen than on the seen", arms, reaches),
    ]


def _no_labels(cohorts: Cohorts) -> list[Asked]:
    found = []
    for metric, words in SEEN_AND_UNSEEN:
        values = [cohorts.of(NO_LABELS, arm.name, metric) - 0.5 for arm in ARMS]
        chance = statistics.deviation_by_chance(np.stack(values, axis=1))
        found.append(
            (
                f"{NO_LABELS}: AUROC of one half on {words}",
                "largest t {:.1f}, of either sign,",
                chance,
            )
        )
    return found


def _shuffled_pairs(cohorts: Cohorts) -> list[Asked]:
    worlds = [world.name for world in WORLDS if world.name != NO_LABELS]
    arms = [(world, arm) for world in worlds for arm in SHUFFLED_PAIRS]
    found = []
    for metric, words in SEEN_AND_UNSEEN:

        def gains(world: str, arm: str, metric: str = metric) -> ndarray:
            return cohorts.against(world, arm, metric)

        found += _wins(f"shuffled pairs: a higher AUROC on {words}", arms, gains)
    return found


def _wins(
    name: str, arms: Sequence[tuple[str, str]], value: Callable[[str, str], ndarray]
) -> list[Asked]:
    differences = np.stack([value(world, arm) for world, arm in arms], axis=1)
    count, largest = statistics.wins_by_chance(differences)
    return [(name, "{:.0f} intervals in favour", count), (name, "largest t {:.1f}", largest)]
