"""The table of what selection comes to, a row per encoder and arm; `rule_of` and `write` use disk.

A row's metrics are those of the chosen settings on the held-out patients, made by `aggregate` as
the main table is: the mean over folds, each with the setting that its own validation patients
chose. Beside them stand the values of the same settings on the patients that they were chosen by,
which are higher than they deserve. What would have been the best setting on held-out patients is
not told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import aggregate, selection, spec
from orchestrator.errors import SweepError
from orchestrator.folder import Folder, write_file
from orchestrator.selection import Choice, Setting
from orchestrator.spec_select import Select


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What was chosen.

    Attributes:
        table: a row per encoder, arm and question.
        choices: plain values of all choices, for `selected.json`.
    """

    table: pd.DataFrame
    choices: dict[str, Any]


def select(
    plan: pd.DataFrame,
    trials: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    axes: Sequence[str],
    rule: Select,
    allow_missing: bool = False,
) -> Selected:
    """Choose settings, and measure the chosen ones; the arguments are those of `selection.choose`.

    Returns:
        The table: encoder, arm, axes that are not chosen among; `rule`, `margin`; `settings`, how
        many there are, and `chosen`, which ones, with their folds where these differ; `trials`
        planned, `missing` and `failed`, of all settings; the mean over folds of the values that
        decided, `validation_auroc` (or `validation_concordance`) and `validation_inconsistency`,
        and how much better these are than on the held-out patients, `optimism_…`; then the columns
        of the main table, NaN where nothing is chosen.

    Raises:
        StoreError: see `selection.choose`, `aggregate.table`.
    """
    trials = trials.reindex(columns=list(dict.fromkeys([*trials.columns, "state", "threshold"])))
    choices = selection.choose(
        plan, trials, predictions, axes=axes, rule=rule, allow_missing=allow_missing
    )
    rows, asked = selection.rows(plan, axes), selection.questions(axes)
    settings = _settings(plan, [name for name in axes if name not in asked])
    measured = aggregate.table(
        chosen(plan, rows, choices), trials, predictions, axes=asked, allow_missing=allow_missing
    )
    by_row = [[each for each in choices if each.row == row] for row in range(len(measured))]
    about = pd.DataFrame([_about(mine, settings, allow_missing) for mine in by_row])
    about.insert(0, "rule", rule.rule)
    about.insert(1, "margin", rule.margin if rule.rule == "robust_within_margin" else np.nan)
    decided = [name for name in about.columns if name.startswith("validation_")]
    optimism = _optimism(about[decided], measured)
    left = ["encoder", "arm", *asked]
    parts = (
        measured[left],
        about.drop(columns=decided),
        _counts(plan, rows, trials),
        measured["versions"],
        about[decided],
        optimism,
        measured.drop(columns=[*left, "trials", "missing", "failed", "versions"]),
    )
    put = list(_settings(plan.assign(cell=rows), asked).values())
    plain = [
        {"encoder": mine[0].encoder, "arm": mine[0].arm, **own, "folds": _folds(mine, settings)}
        for mine, own in zip(by_row, put, strict=True)
    ]
    margin = {"margin": rule.margin} if rule.rule == "robust_within_margin" else {}
    told = {"rule": rule.rule, **margin, "rows": plain}
    return Selected(table=pd.concat(parts, axis=1), choices=told)


def chosen(plan: pd.DataFrame, rows: pd.Series, choices: Sequence[Choice]) -> pd.DataFrame:
    """Give the plan of the chosen settings, in which a row of the table is a cell.

    Where nothing is chosen, all settings of the fold are there, with their holes.
    """
    keys = pd.MultiIndex.from_arrays([rows, plan["fold"]])
    cell = {(each.row, each.fold): each.chosen.cell for each in choices if each.chosen}
    wanted = np.array([cell.get(key, -1) for key in keys])
    found: pd.DataFrame = plan[(wanted == plan["cell"]) | (wanted < 0)].assign(cell=rows)
    return found


def rule_of(folder: Folder, select: str | None, margin: float | None) -> Select | None:
    """Settle the rule: as asked for, else as the sweep's spec has it; None where neither does.

    Raises:
        SweepError: There is a margin without its rule, or the stored spec cannot be read.
    """
    own = spec.selection(folder.spec)
    name = select or (own.rule if own else None)
    if margin is not None:
        if name != "robust_within_margin":
            raise SweepError(
                f"--margin {margin:g} without its rule", hint="add --select robust_within_margin"
            )
        return Select(rule="robust_within_margin", margin=margin)
    if name is None or (own is not None and own.rule == name):
        return own
    return Select.model_validate({"rule": name})


def write(selected: Selected, folder: Path, name: str = "selected") -> list[Path]:
    """Write `<name>.csv`, `<name>.parquet` and `<name>.json`; equal ones, equal bytes."""
    paths = aggregate.write(selected.table, folder, name)
    text = json.dumps(selected.choices, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_file(folder / f"{name}.json", text.encode())
    return [*paths, folder / f"{name}.json"]


def _optimism(decided: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Say how much better values are on the patients that chose than on those held out."""
    names = [name.removeprefix("validation_") for name in decided.columns]
    gain = {
        f"optimism_{name}": (decided[f"validation_{name}"] - measured[name])
        * (-1 if name == "inconsistency" else 1)
        for name in names
    }
    return pd.DataFrame(gain, index=decided.index)


def _counts(plan: pd.DataFrame, rows: pd.Series, trials: pd.DataFrame) -> pd.DataFrame:
    """Count the trials of all settings of each row of the table."""
    state = plan["trial"].map(trials.set_index("trial")["state"])
    return pd.DataFrame(
        {
            "trials": rows.groupby(rows).size(),
            "missing": state.isna().groupby(rows).sum(),
            "failed": state.eq("failed").groupby(rows).sum(),
        }
    )


def _about(
    choices: Sequence[Choice], settings: Mapping[int, Mapping[str, Any]], allow_missing: bool
) -> dict[str, Any]:
    """Tell what was chosen in the folds of a row, and by which values."""
    settled = [each.chosen for each in choices if each.chosen]
    if len(settled) < len(choices) and not allow_missing:
        settled = []
    value = [each.value for each in settled]
    spread = [each.inconsistency for each in settled]
    return {
        "settings": len({each.cell for choice in choices for each in choice.settings}),
        "chosen": _text(choices, settings) if settled else "",
        f"validation_{choices[0].metric}": _mean(value),
        "validation_inconsistency": _mean(spread),
    }


def _text(choices: Sequence[Choice], settings: Mapping[int, Mapping[str, Any]]) -> str:
    """Write which settings were chosen, and in which folds where these differ."""
    folds: dict[int, list[str]] = {}
    for choice in choices:
        if choice.chosen:
            folds.setdefault(choice.chosen.cell, []).append(str(choice.fold))
    texts = {
        cell: ", ".join(f"{name}={value}" for name, value in settings[cell].items())
        for cell in sorted(folds)
    }
    if len(texts) < 2:
        return next(iter(texts.values()), "")
    return "; ".join(
        f"{text} (fold{'s' * (len(folds[cell]) > 1)} {', '.join(folds[cell])})"
        for cell, text in texts.items()
    )


def _settings(plan: pd.DataFrame, axes: Sequence[str]) -> dict[int, dict[str, Any]]:
    """Give the axes of each cell that it has, as plain values."""
    cells = plan.drop_duplicates("cell").set_index("cell")
    return {
        int(str(cell)): {
            str(name): json.loads(text)
            for name, text in own.items()
            if isinstance(text, str) and text
        }
        for cell, own in zip(cells.index, cells[list(axes)].to_dict("records"), strict=True)
    }


def _folds(
    choices: Sequence[Choice], settings: Mapping[int, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Write the choices of a row as plain values, with all that was chosen among."""

    def one(setting: Setting, metric: str) -> dict[str, Any]:
        values = {metric: setting.value, "inconsistency": setting.inconsistency}
        told = {name: None if np.isnan(value) else value for name, value in values.items()}
        return {"setting": settings[setting.cell], "seeds": setting.seeds, "validation": told}

    return [
        {
            "fold": each.fold,
            "chosen": settings[each.chosen.cell] if each.chosen else None,
            "settings": [one(setting, each.metric) for setting in each.settings],
        }
        for each in choices
    ]


def _mean(values: Sequence[float]) -> float:
    """Average over the folds in which a value is defined, as the main table does."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
