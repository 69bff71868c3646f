"""The groups of scans that losses and input methods compare: the values of a column of the index.

Only scans that training may draw make groups, so that nothing about other parts is learned. A scan
whose value is empty belongs to no group.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.config import TrialConfig
from training.config_inputs import ComBat, NoInputMethod, PairedErasure


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


def input_problems(
    scans: pd.DataFrame, config: TrialConfig, label: Mapping[str, int]
) -> Iterable[str]:
    """Say why the input method cannot be fitted, where there are scans.

    Args:
        scans: the training scans on seen scanners.
        config: of the trial.
        label: class number of each patient.
    """
    method = config.input
    drawn = scans if config.views == "all" else scans[scans["routine"]]
    if isinstance(method, NoInputMethod) or not len(drawn):
        return
    kind = f"input {method.kind}"
    if isinstance(method, PairedErasure):
        dim = int(drawn["dim"].min())
        if method.rank >= dim:
            yield f"{kind}: expected a rank below the {dim} features, found {method.rank}"
        return
    column = method.group
    found = sorted(set(drawn[column]) - {""})
    if len(found) < 2:
        text = f"only {found[0]!r}" if found else "none"
        yield f"{kind}: expected training scans of two groups by {column}, found {text}"
    elif isinstance(method, ComBat):
        known = drawn[drawn[column] != ""]
        kept = method.covariate == "label"
        classes = [label[each] if kept else 0 for each in known["patient"]]
        yield from _not_estimable(known[column].tolist(), classes, column)


def _not_estimable(group: Sequence[str], classes: Sequence[int], column: str) -> Iterable[str]:
    """Say which coefficients of ComBat, of groups and of classes but one, have no estimate."""
    columns = [np.array(each)[:, None] == np.unique(each) for each in (group, classes)]
    design = np.hstack(columns).astype(np.float64)
    coefficients = design.shape[1] - 1
    if np.linalg.matrix_rank(design) < coefficients:
        yield (
            f"input combat: {column} and class cannot be told apart, since some groups have none "
            "of the classes of the others; expected groups that share classes, or covariate: none"
        )
    elif len(design) <= coefficients:
        yield (
            f"input combat: expected more training scans than the {coefficients} coefficients of "
            f"{column} and class, found {len(design)}"
        )
