"""What became of each patient, from the cases: time, event, stratum, and what is wrong there."""

import math
import numbers
from collections.abc import Set
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from training.config_task import Survival
from training.errors import DataError

_EVENT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class Outcome(NamedTuple):
    """Time to the event, or until a patient was last known without it (censored)."""

    time: float
    event: bool
    stratum: tuple[str, ...]


def read_outcomes(
    cases: pd.DataFrame, present: Set[str], settings: Survival, *, path: Path
) -> tuple[dict[str, Outcome], list[str]]:
    """Give the outcome of each patient, in order of patients, and what is wrong, a line each.

    A patient whose time and event are both empty has no outcome, which is no problem here.

    Args:
        cases: one row per patient.
        present: the patients that matter.
        settings: which columns hold what.
        path: of the cases, for messages.

    Raises:
        DataError: A column is missing; all of them at once.
    """
    names = [settings.time, settings.event, *settings.strata]
    absent = [_missing(cases, name, path) for name in names if name not in cases.columns]
    if absent:
        raise DataError("\n".join(absent))
    columns = [cases[name].tolist() for name in names]
    rows = zip(cases["patient"].tolist(), *columns, strict=True)
    found: dict[str, Outcome] = {}
    problems: list[str] = []
    for patient, *values in sorted(rows, key=lambda row: str(row[0])):
        if patient not in present or (_empty(values[0]) and _empty(values[1])):
            continue
        outcome, wrong = _parse(values, settings)
        problems += [f"patient {patient!r}: {line}" for line in wrong]
        if outcome is not None:
            found[patient] = outcome
    return found, problems


def _missing(cases: pd.DataFrame, name: str, path: Path) -> str:
    near = get_close_matches(name, list(cases.columns), n=1)
    return f"{path}: no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _parse(values: list[Any], settings: Survival) -> tuple[Outcome | None, list[str]]:
    """Read the values of a patient: time, event, then strata."""
    time, event = _number(values[0]), _EVENT.get(str(values[1]).strip().casefold())
    problems = []
    if time is None:
        problems.append(f"{settings.time} {_found(values[0])}, expected a finite number above 0")
    if event is None:
        problems.append(f"{settings.event} {_found(values[1])}, expected 1 (event) or 0 (censored)")
    problems += [
        f"{name} is empty, expected the patient's stratum"
        for name, value in zip(settings.strata, values[2:], strict=True)
        if _empty(value)
    ]
    if time is None or event is None or problems:
        return None, problems
    return Outcome(time, event, tuple(map(str, values[2:]))), []


def _found(value: Any) -> str:
    return "is empty" if _empty(value) else f"is {value!r}"


def _empty(value: Any) -> bool:
    return bool(pd.isna(value)) or (isinstance(value, str) and not value.strip())


def _number(value: Any) -> float | None:
    """Read a finite number above 0, also where it is written as text; None for all else."""
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        return None
    if isinstance(value, str) and "_" in value:  # which Python would take for a number
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
