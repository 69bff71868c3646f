"""Where there is nothing to be won, does nobody win? Each check can fail.

What is null is chosen with care, since a loss may honestly do good where there is no scanner: a
regulariser can raise the AUROC of a small cohort, and a model that is less sensitive to which tiles
a scan has is less inconsistent. So, against the reference in the same cohorts,

1. without a scanner effect, scanners are exchangeable within a slide. Whatever an arm does, its
   scores must not move with the scanner less than the reference's (`scanner_ratio`, which shrinking
   and smoothing do not change), and it must not be better on the unseen scanner than on the seen
   ones (their difference in AUROC). Counted: arms whose interval says that they are;
2. with shuffled training labels there is nothing to predict: the AUROC of every arm is one half, on
   seen scanners and on the unseen one;
3. with shuffled pairs the pair losses gain no accuracy, in any world, on seen scanners or on the
   unseen one. They may become less inconsistent: a shuffled pair still names two scanners, and to
   pull their scans together aligns the scanners' means.

Chance is the same differences with random signs (`statistics`), at `settings.HONEST` for each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tests.science import statistics
from tests.science.settings import ARMS, HONEST, SHUFFLED_PAIRS, WORLDS
from tests.science.statistics import Chance
from tests.science.summary import Cohorts, others

NO_EFFECT, NO_LABELS = "no scanner effect", "shuffled labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A null and whether it was honest."""

    name: str
    honest: bool
    text: str


def checks(cohorts: Cohorts) -> list[Check]:
    """Check every null."""
    everyone = [arm.name for arm in ARMS]
    shuffled = [
        (world.name, arm)
        for world in WORLDS
        if world.name != NO_LABELS
        for arm in SHUFFLED_PAIRS
    ]
    unseen = "unseen_scanner_auroc"

    def wins(arms: list[tuple[str, str]], value: Callable[[str, str], ndarray]) -> Chance:
        return statistics.wins_by_chance(_columns(arms, value))

    compared = [(NO_EFFECT, arm) for arm in others()]
    found = [
        _wins(
            "no scanner effect: scores that move less with the scanner",
            wins(compared, lambda w, a: -cohorts.against(w, a, "scanner_ratio")),
        ),
        _wins(
            "no scanner effect: better on the unseen than on seen scanners",
            wins(
                compared,
                lambda w, a: cohorts.against(w, a, unseen) - cohorts.against(w, a, "auroc"),
            ),
        ),
    ]
    for metric, words in (("auroc", "seen scanners"), (unseen, "the unseen scanner")):
        deviation = statistics.deviation_by_chance(
            _columns(
                [(NO_LABELS, arm) for arm in everyone],
                lambda w, a, metric=metric: cohorts.of(w, a, metric) - 0.5,
            )
        )
        found.append(_half(f"shuffled labels: AUROC on {words}", deviation))
    for metric, words in (("auroc", "seen scanners"), (unseen, "the unseen scanner")):
        chance = wins(shuffled, lambda w, a, metric=metric: cohorts.against(w, a, metric))
        found.append(_wins(f"shuffled pairs: a higher AUROC on {words}", chance))
    return found


def _columns(
    arms: list[tuple[str, str]], value: Callable[[str, str], ndarray]
) -> Float[ndarray, "cohort arm"]:
    return np.stack([value(world, arm) for world, arm in arms], axis=1)


def _wins(name: str, chance: Chance) -> Check:
    text = (
        f"{chance.found:.0f} of {chance.num_arms} intervals in favour, chance gives "
        f"{chance.expected:.1f} (p = {chance.p:.3f})"
    )
    return Check(name=name, honest=chance.p >= HONEST, text=text)


def _half(name: str, chance: Chance) -> Check:
    text = (
        f"the arm farthest from .5 of {chance.num_arms} has |t| = {chance.found:.1f}, chance gives "
        f"{chance.expected:.1f} (p = {chance.p:.3f})"
    )
    return Check(name=name, honest=chance.p >= HONEST, text=text)
