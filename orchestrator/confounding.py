"""Warns where class and scanner, site, lab or stain go together among the training patients.

There a model can learn the one for the other, and a robustness loss that removes the one may remove
the other.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.plan import Plan
from training.config import Task

if TYPE_CHECKING:
    import pandas as pd

    from training.data.index import Dataset

COLUMNS = ("scanner", "site", "lab", "stain")
LEAST, CHANCE = 0.2, 0.01
"""Warned is above this Cramér's V, corrected for chance, where chance alone is less probable."""


def warnings(dataset: "Dataset | None", plan: Plan) -> list[str]:
    """Compare the class with each column, over the routine scans of patients who train in any fold.

    Scans whose value is empty do not count.

    Args:
        dataset: None where there are no data yet.
        plan: whose trials read them.
    """
    if dataset is None or not plan.splits:
        return []
    from training.data import folds

    scans = dataset.index[dataset.index["routine"] & (dataset.index["source_scan"] == "")]
    scans = scans[["view", "patient", "encoder", *COLUMNS]]
    splits: dict[Task, set[tuple[str, int, str]]] = {}
    for each in plan.trials:
        if each.fingerprint:
            key = (each.config.encoder, each.config.fold, each.fingerprint)
            splits.setdefault(each.config.task, set()).add(key)
    lines: list[str] = []
    for task, keys in splits.items():
        parts = [plan.splits[key] for key in keys]
        patients = {one for split in parts for one in (*split.train, *split.validation)}
        mine = scans["encoder"].isin({key[0] for key in keys}) & scans["patient"].isin(patients)
        rows = scans[mine].drop_duplicates("view")
        number = rows["patient"].map(folds.strata(dataset, task))
        name = "class" if len(splits) == 1 else f"class ({task.label})"
        lines += _of_task(rows.assign(number=number), name)
    return lines


def _of_task(scans: "pd.DataFrame", name: str) -> Iterable[str]:
    """Name the columns that go together with `number`, the class."""
    import pandas as pd

    from training.metrics.association import chance, cramers_v

    for column in COLUMNS:
        known = scans[scans[column] != ""]
        counts = pd.crosstab(known["number"], known[column]).to_numpy()
        if min(counts.shape) < 2:
            continue
        value, corrected = cramers_v(counts), cramers_v(counts, corrected=True)
        if corrected > LEAST and chance(counts) < CHANCE:
            yield (
                f"{name} and {column} are confounded: Cramér's V {value:.3f} ({corrected:.3f} "
                f"corrected for chance) over {len(known):,} routine scans of training patients"
            )
