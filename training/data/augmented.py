"""Augmented views: of training scans for `pairs: augmented`, of held-out ones to see scores move.

A view belongs to its scan: patient, scanner, site, lab, stain and cohort are the scan's, whatever
the view's own row says.
"""

from collections.abc import Collection, Iterable

import pandas as pd

from training.config import TrialConfig
from training.data import seen
from training.data.index import Dataset

_OF_THE_SCAN = ["patient", "slide", "scanner", "site", "lab", "stain", "cohort"]


def views(dataset: Dataset, config: TrialConfig, patients: Collection[str]) -> pd.DataFrame:
    """List the augmented views that a trial trains on: rows of the index, in order of views.

    Args:
        dataset: what it reads.
        config: of the trial; without `pairs: augmented` it trains on none.
        patients: of the training part.
    """
    mine = dataset.index[dataset.index["encoder"] == config.encoder]
    scans = mine[(mine["source_scan"] == "") & mine["patient"].isin(patients)]
    scans = scans[seen.is_seen(dataset, scans, config) & (config.pairs == "augmented")]
    return of(dataset, scans)


def of(dataset: Dataset, scans: pd.DataFrame) -> pd.DataFrame:
    """List the views made from scans of one encoder: rows of the index, in order of views.

    Args:
        dataset: where they are.
        scans: rows of the index.
    """
    made = dataset.index[dataset.index["encoder"].isin(scans["encoder"])]
    made = made[made["source_scan"].isin(scans["scan"])].sort_values("view", kind="stable")
    source = scans.set_index("scan").loc[made["source_scan"]]
    return made.assign(**{name: source[name].to_numpy() for name in _OF_THE_SCAN})


def texts(dataset: Dataset, config: TrialConfig, patients: Collection[str]) -> Iterable[list[str]]:
    """Give what of its views is part of the identity of a trial's data, if it trains on views."""
    if config.pairs == "augmented":
        made = views(dataset, config, patients)
        for name in ("view", "source_scan", "checksum", "dtype", "num_tiles", "dim"):
            yield made[name].astype("str").tolist()
