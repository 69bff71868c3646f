"""The groups of scans that losses compare: the values of a column of the index.

Only scans that training may draw make groups, so that nothing about other parts is learned. A scan
whose value is empty belongs to no group.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.config import TrialConfig


def columns(config: TrialConfig) -> list[str]:
    """List the columns that the losses of a trial compare."""
    return sorted({loss.group for loss in config.losses if hasattr(loss, "group")})


def names(scans: pd.DataFrame, column: str) -> list[str]:
    """List the groups of the training scans, in order.

    Args:
        scans: rows of the index on seen scanners, with the column `part`.
        column: of the index.
    """
    return sorted(set(scans.loc[scans["part"] == "train", column]) - {""})


def numbers(values: "pd.Series[str]", known: Sequence[str]) -> npt.NDArray[np.int64]:
    """Number the groups of scans by their place in `known`; -1 for a value that is not there."""
    places = {name: number for number, name in enumerate(known)}
    return np.array([places.get(value, -1) for value in values], np.int64)


def problems(scans: pd.DataFrame, config: TrialConfig) -> Iterable[str]:
    """Say which losses have scans, but fewer than two groups to compare.

    Args:
        scans: the training scans on seen scanners that a batch can hold.
        config: of the trial.
    """
    drawn = scans if config.views == "all" else scans[scans["routine"]]
    for column in columns(config) if len(drawn) else ():
        found = sorted(set(drawn[column]) - {""})
        if len(found) < 2:
            named = ", ".join(x.kind for x in config.losses if getattr(x, "group", "") == column)
            scope = "scans" if config.views == "all" else "routine scans"
            text = f"only {found[0]!r}" if found else "none"
            yield f"{named}: expected training {scope} of two groups by {column}, found {text}"
