"""Warns where losses on tiles have nothing to compare: no tissue that the scans of a slide share.

Such a loss is zero in every step, and its arm the same as one without it.
"""

from typing import TYPE_CHECKING

import numpy as np

from orchestrator.plan import Plan
from training.config import Loss

if TYPE_CHECKING:
    import pandas as pd

    from training.data.index import Dataset

LOOKED_AT = 20
"""Slides whose tile numbers are read: a login node has no time for all."""


def warnings(dataset: "Dataset | None", plan: Plan) -> list[str]:
    """Look at the first two scans of some slides of each encoder that has losses on tiles.

    Args:
        dataset: None where there are no data yet. A simulated one may be gone again.
        plan: whose trials read them.
    """
    if dataset is None or not dataset.root.is_dir():
        return []
    encoders = dict.fromkeys(
        each.config.encoder
        for each in plan.trials
        if each.fingerprint
        and each.config.pairs == "scans"
        and any(map(on_tiles, each.config.losses))
    )
    lines = []
    for encoder in encoders:
        of_scans = dataset.index["source_scan"] == ""
        slides = _looked_at(dataset.index[of_scans & (dataset.index["encoder"] == encoder)])
        if slides and not any(_share(dataset, scans) for scans in slides):
            lines.append(
                f"{encoder}: no tile is the same tissue in two scans of a slide ({len(slides)} "
                "slides looked at): losses on tiles compare nothing; number the tiles in the "
                "files (tile), or embed the slides with sweep embed"
            )
    return lines


def on_tiles(loss: Loss) -> bool:
    """Tell whether a loss compares tiles of two scans."""
    return getattr(loss, "level", "bag") == "tile" or getattr(loss, "form", "") == "attention"


def _looked_at(scans: "pd.DataFrame") -> "list[pd.DataFrame]":
    """Choose slides of several scans, evenly over all."""
    several = scans[scans.duplicated("slide", keep=False)]
    names = several["slide"].drop_duplicates().tolist()
    chosen = names[:: max(1, len(names) // LOOKED_AT)][:LOOKED_AT]
    return [several[several["slide"] == name].head(2) for name in chosen]


def _share(dataset: "Dataset", scans: "pd.DataFrame") -> bool:
    from training.data.bags import BagReader

    reader = BagReader(dataset.root)
    one, other = (reader.tiles(row) for row in scans.itertuples(index=False))
    return np.intersect1d(one, other).size > 0
