"""Grows the plan of a search whose settings follow from results; pure but for `values`.

A round is a batch of settings for one group of cells (`Searched.group`). Once all of its trials are
done or given up, the next batch is suggested from the mean validation value of each setting over
its folds and seeds; held-out patients take no part, since such a search needs folds that hold out
the same ones (`spec_search_check`). What was suggested is kept with the plan, so that it is never
suggested otherwise.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from orchestrator import spec_search, suggest
from orchestrator.plan import Plan
from orchestrator.spec_search import LOWER_IS_BETTER, OptunaSearch, Setting

Values = Callable[[Collection[str]], Mapping[str, float]]
"""Reads the validation values of trials that are done."""


@dataclass(slots=True, kw_only=True)
class _Group:
    """The settings of a group as JSON, with the trials of each, and which way values are better."""

    search: OptunaSearch
    sign: float
    trials: dict[str, list[str]] = field(default_factory=dict)


def grow(
    plan: Plan, suggested: Mapping[str, Sequence[Setting]], *, values: Values
) -> Mapping[str, Sequence[Setting]]:
    """Suggest the next settings of each group whose trials are all done or given up.

    Args:
        plan: with the settings so far.
        suggested: by group, the settings that were suggested so far.
        values: reads validation values.

    Returns:
        By group, all of its suggested settings; nothing where no group grows.
    """
    over = plan.done | plan.failed
    ready = {
        name: group
        for name, group in _groups(plan).items()
        if over.issuperset(trial for ids in group.trials.values() for trial in ids)
        and _num_settings(group.search, suggested.get(name, ())) < group.search.samples
    }
    wanted = {t for group in ready.values() for ids in group.trials.values() for t in ids}
    known = values(wanted & plan.done) if wanted else {}
    grown: dict[str, Sequence[Setting]] = {}
    for name, group in ready.items():
        before = list(suggested.get(name, ()))
        left = group.search.samples - _num_settings(group.search, before)
        told = [(json.loads(text), _value(ids, known, group)) for text, ids in group.trials.items()]
        if new := suggest.settings(group.search, told, min(left, group.search.batch)):
            grown[name] = [*before, *new]
    return {**suggested, **grown} if grown else {}


def _groups(plan: Plan) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for row, trial in zip(plan.rows, plan.row_trials, strict=True):
        if row.searched is None or not isinstance(row.searched.search, OptunaSearch):
            continue
        sign = -1.0 if row.config.stopping.metric in LOWER_IS_BETTER else 1.0
        group = groups.setdefault(row.searched.group, _Group(search=row.searched.search, sign=sign))
        group.trials.setdefault(json.dumps(row.searched.setting), []).append(trial.id)
    return groups


def _num_settings(search: OptunaSearch, suggested: Sequence[Setting]) -> int:
    return len(spec_search.initial(search)) + len(suggested)


def _value(ids: Sequence[str], known: Mapping[str, float], group: _Group) -> float | None:
    """Average a setting over its trials; None where one failed or has no value."""
    values = [known.get(trial, math.nan) for trial in ids]
    return group.sign * fmean(values) if all(map(math.isfinite, values)) else None
