"""Slides with scans on several scanners, on which a rule may judge how consistent scores are."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.config import TrialConfig


def is_paired(scans: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Tell which scans are of a slide with scans on several scanners; an empty name is none."""
    named = scans["scanner"] != ""
    scanners = scans["scanner"].where(named).groupby(scans["slide"]).transform("nunique")
    return (named & (scanners > 1)).to_numpy(bool)


def problems(scans: pd.DataFrame, config: TrialConfig) -> Iterable[str]:
    """Say that the rule of the epoch reads an inconsistency, where there is none.

    Args:
        scans: rows of the index: scans of the validation patients on seen scanners.
        config: of the trial.
    """
    if config.stopping.compares_scanners:
        count = scans.loc[is_paired(scans), "slide"].nunique()
        if count < 2:
            yield (
                "stopping: inconsistency needs two validation slides with scans on two seen "
                f"scanners, found {count}"
            )
