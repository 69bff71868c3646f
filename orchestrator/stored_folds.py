"""Who trained, validated and was held out: the table `folds.parquet` of a sweep.

One row per patient, encoder and fold: `encoder`, `fold`, `fingerprint` (of a trial's data, as in
`plan.parquet`), `part` (train, validation, test or external) and `patient`. A patient without a row
took no part. Arms that divide the patients otherwise have fingerprints of their own. The table
keeps a split that other versions of a solver or of a generator may not make again.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.plan import Plan

COLUMNS = ("encoder", "fold", "fingerprint", "part", "patient")


def frame(plan: "Plan", before: "pd.DataFrame | None" = None) -> "pd.DataFrame":
    """Tabulate the splits of a plan, ordered by encoder, fold and fingerprint.

    Args:
        plan: with its splits.
        before: an earlier table: its rows of other splits are kept.
    """
    import pandas as pd

    parts = [
        (*key, part, patients)
        for key, split in sorted(plan.splits.items(), key=lambda item: item[0])
        for part, patients in split.parts.items()
        if patients
    ]
    made = pd.DataFrame(parts, columns=list(COLUMNS)).explode("patient", ignore_index=True)
    if before is None:
        return made
    known = pd.MultiIndex.from_tuples(plan.splits, names=COLUMNS[:3])
    kept = before[~before.set_index(list(COLUMNS[:3])).index.isin(known)]
    return pd.concat([made, kept], ignore_index=True)
