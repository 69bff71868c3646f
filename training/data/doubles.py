"""Signs that one patient or slide stands in a data set under two names; notes, no refusals."""

from collections.abc import Iterable

import pandas as pd

from training.data import leaks, tables


def notes(scans: pd.DataFrame) -> list[str]:
    """Name bags that are stored under several patients, and names that differ in case or spaces.

    A split that divides such a bag's patients is refused later (`leaks`); names alone may be
    chance, so that nothing is refused for them.

    Args:
        scans: rows of the index of one encoder.
    """
    lines = [
        f"patients {tables.joined(owners)} have an identical bag: no split may divide them"
        for owners in sorted({tuple(each) for each in leaks.same_bags(scans)})
    ]
    slides = scans.drop_duplicates("slide")
    patient = dict(zip(slides["slide"], slides["patient"], strict=True))
    for names in _alike(sorted(set(scans["patient"]))):
        lines.append(f"patients {tables.joined(names)} differ in case or spaces only")
    for names in _alike(sorted(patient)):
        owners = sorted({patient[name] for name in names})
        if len(owners) > 1 and len(_alike(owners)) != 1:
            lines.append(
                f"slides {tables.joined(names)} of patients {tables.joined(owners)} differ in case "
                "or spaces only"
            )
    shown = lines[:10]
    return shown + ([f"and {len(lines) - 10} more like these"] if len(lines) > 10 else [])


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Group names that are the same but for case and white space."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault("".join(name.split()).casefold(), []).append(name)
    return [group for group in found.values() if len(group) > 1]
