"""Named rules that choose one setting of an arm, on validation patients alone; pure.

For each encoder, arm and fold one setting is chosen, the same for all seeds, by the means over
seeds of two values: the accuracy (AUROC, or concordance of a survival task) and the inconsistency
of the validation patients, which are patients of the training part of that very fold. They are
measured as `measure` does held-out patients. Another fold may choose another setting: the choice is
nested, and the held-out patients of a fold say what the whole procedure comes to, choice included.

A score of a held-out patient, of an external cohort or on an unseen scanner is never read here: a
trial of which such a row stands among the validation rows is refused.

A setting is a cell. Cells that put another question or obey another rule, by an axis of
`QUESTIONS`, are never chosen among: they make rows of their own.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from orchestrator import aggregate, validation
from orchestrator.errors import StoreError
from orchestrator.spec_select import Select

QUESTIONS = frozenset(
    (
        "task", "folds", "stopping", "unseen_scanners", "external_cohorts", "shuffle_labels",
        "draw_seed", "pairs", "test_time",
    )
)  # fmt: skip
"""First words of the axes that say what is asked or which control it is, not how well to train."""

ROUNDING = 1e-12
"""A value this much beyond the margin is within it: a difference of floats is not exact."""

_SHOWN = 5
"""Problems that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the validation patients of a fold say of a setting: means over the seeds that are done.

    Attributes:
        cell: of the plan.
        value: accuracy; NaN where it is not defined.
        inconsistency: NaN where it is not defined.
        seeds: how many are done.
        scored: whether there are validation predictions.
        paired: validation slides with scans on several scanners, in the trial that has fewest.
    """

    cell: int
    value: float
    inconsistency: float
    seeds: int
    scored: bool
    paired: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The choice of a fold.

    Attributes:
        row: number of encoder, arm and question, in the order of the plan.
        encoder: its name.
        arm: its name.
        fold: its number.
        metric: what the accuracy is, auroc or concordance.
        chosen: None where there is no setting to choose, or a hole among them.
        settings: those that were chosen among, in the plan's order.
    """

    row: int
    encoder: str
    arm: str
    fold: int
    metric: str
    chosen: Setting | None
    settings: tuple[Setting, ...]


def questions(axes: Sequence[str]) -> list[str]:
    """Name the axes that are not chosen among."""
    return [name for name in axes if name.split(".")[0] in QUESTIONS]


def rows(plan: pd.DataFrame, axes: Sequence[str]) -> pd.Series:
    """Number the rows of the table of choices: encoder, arm and question, in the plan's order."""
    names = ["encoder", "arm", *questions(axes)]
    first = plan["cell"].groupby([plan[name].fillna("") for name in names]).transform("min")
    return first.rank(method="dense").astype(int) - 1


def choose(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    rule: Select,
    allow_missing: bool = False,
) -> list[Choice]:
    """Choose a setting for each encoder, arm, question and fold.

    Of equally good settings the first in the order of the spec is chosen. One setting alone is
    chosen whatever its values. A setting with a trial that a search retired is none of those to
    choose among.

    Args:
        plan: a row per cell and trial, as in `plan.parquet`.
        trials: a row per trial with a result.
        predictions: a row per trial and scan.
        axes: columns of `plan` that tell cells apart.
        rule: how to choose.
        allow_missing: choose among the settings that have results, by the seeds that are there.
            Without it, nothing is chosen where a trial is missing or failed.

    Raises:
        StoreError: The rule needs what the validation patients do not have, or predictions are
            damaged or leak.
    """
    known = trials[trials["trial"].isin(plan["trial"])].set_index("trial")
    if known.index.has_duplicates:
        raise StoreError(
            f"trial {known.index[known.index.duplicated()][0]} has more than one result"
        )
    configs = _configs(plan)
    unseen = {trial: set(aggregate.unseen_of(each)) for trial, each in configs.items()}
    survival = {trial for trial, each in configs.items() if _metric(each) == "concordance"}
    judged = validation.judged(known, predictions, unseen, survival)
    table = plan[["cell", "encoder", "arm", "fold", "seed", "trial"]].assign(row=rows(plan, axes))
    table = table.join(known["state"], on="trial").join(judged, on="trial")
    table["metric"] = plan["trial"].map({trial: _metric(each) for trial, each in configs.items()})
    table["value"] = table["auroc"].where(table["metric"] == "auroc", table["concordance"])
    table = table.sort_values(["row", "fold", "cell", "seed", "trial"], kind="stable")
    folds = itertools.groupby(_settings(table), key=lambda item: (item["row"], item["fold"]))
    choices = [_choice(list(items), rule, allow_missing) for _, items in folds]
    problems = [text for choice in choices for text in _problems(choice, rule)]
    if problems:
        more = len(problems) - _SHOWN
        shown = [*problems[:_SHOWN], *([f"and {more} more like this"] if more > 0 else [])]
        raise StoreError(
            "\n".join(f"selection by {rule}: {text}" for text in shown),
            hint="choose by another rule with --select",
        )
    return choices


def pick(
    value: npt.NDArray[np.float64], inconsistency: npt.NDArray[np.float64], rule: Select
) -> int:
    """Give the place of the setting that a rule chooses, the first of equally good ones.

    Args:
        value: accuracy of each setting, defined unless the rule is `robustness`.
        inconsistency: of each setting; NaN, which scores without spread give, is the worst.
        rule: how to choose.
    """
    spread = np.where(np.isnan(inconsistency), np.inf, inconsistency)
    if rule.rule == "accuracy":
        return int(np.argmax(value))
    if rule.rule == "robustness":
        return int(np.argmin(spread))
    within = np.flatnonzero(value.max() - value <= rule.margin + ROUNDING)
    return int(within[np.argmin(spread[within])])


def _settings(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Average the trials of each setting and fold over seeds; a value that one lacks is NaN."""
    keys = ["row", "fold", "cell"]
    table = table.assign(done=table["state"] == "done", retired=table["state"] == "retired")
    each = table.groupby(keys)
    found = each[["encoder", "arm", "metric"]].first()
    found["hole"] = each["done"].sum() < each.size()
    found["retired"] = each["retired"].any()
    done = table[table["done"]].groupby(keys)
    found["seeds"] = done.size()
    found["scored"] = done["paired"].count() == done.size()
    found["paired"] = done["paired"].min()
    for name in ("value", "inconsistency"):
        found[name] = done[name].mean().where(done[name].count() == done.size())
    items = found.reset_index().to_dict("records")
    return [{str(name): value for name, value in item.items()} for item in items]


def _choice(items: Sequence[dict[str, Any]], rule: Select, allow_missing: bool) -> Choice:
    """Choose among the settings of a row and fold, which are in the order of the plan."""
    first = items[0]
    hole = any(item["hole"] and not item["retired"] for item in items)
    settings = [
        Setting(
            cell=item["cell"],
            value=item["value"],
            inconsistency=item["inconsistency"],
            seeds=int(item["seeds"]),
            scored=item["scored"],
            paired=int(item["paired"]) if item["scored"] else 0,
        )
        for item in items
        if item["seeds"] > 0 and not item["retired"]
    ]
    choice = Choice(
        row=first["row"],
        encoder=first["encoder"],
        arm=first["arm"],
        fold=first["fold"],
        metric=first["metric"],
        chosen=None,
        settings=tuple(settings),
    )
    if not settings or (hole and not allow_missing) or any(_problems(choice, rule)):
        return choice
    place = 0
    if len(settings) > 1:
        value = np.array([each.value for each in settings])
        place = pick(value, np.array([each.inconsistency for each in settings]), rule)
    return replace(choice, chosen=settings[place])


def _problems(choice: Choice, rule: Select) -> Iterator[str]:
    """Say what a rule needs to choose among several settings, where it is not there."""
    if len(choice.settings) < 2:
        return
    where = f"encoder {choice.encoder}, arm {choice.arm}, fold {choice.fold}"
    if not all(each.scored for each in choice.settings):
        yield f"{where}: no predictions of validation patients"
    elif rule.rule != "accuracy" and min(each.paired for each in choice.settings) < 2:
        count = min(each.paired for each in choice.settings)
        yield (
            f"{where}: needs two validation slides with scans on several seen scanners, "
            f"found {count}"
        )
    elif rule.rule != "robustness" and any(np.isnan(each.value) for each in choice.settings):
        yield f"{where}: {choice.metric} of the validation patients is not defined"


def _configs(plan: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Read the configuration of each trial."""
    each = plan.drop_duplicates("trial")
    return {
        str(trial): json.loads(text)
        for trial, text in zip(each["trial"], each["config"], strict=True)
    }


def _metric(config: dict[str, Any]) -> str:
    """Name what the accuracy of a trial is."""
    survival = config.get("task", {}).get("kind") == "survival"
    return "concordance" if survival else "auroc"
