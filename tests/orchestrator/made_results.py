"""Results of a sweep that nobody trained: random scores of arms that are more or less good."""

import json
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.evidence import Results

FOLDS, SEEDS, PATIENTS = 2, 2, 24


def plan(arms=("erm", "score"), *, encoders=("uni",), axes=None, config=None, folds=FOLDS):
    """Plan arms, each with the given values of axes; losses make an arm no reference."""
    rows, cell = [], 0
    for encoder in encoders:
        for arm in arms:
            for values in (axes or {}).get(arm, [{}]):
                for fold in range(folds):
                    for seed in range(SEEDS):
                        own = {"losses": [] if arm == "erm" else [{"kind": "score"}],
                               "views": "routine", **(config or {})}  # fmt: skip
                        rows.append(
                            {"cell": cell, "trial": f"{encoder}-{arm}-{cell}-{fold}-{seed}",
                             "encoder": encoder, "arm": arm, "fold": fold, "seed": seed,
                             "config": json.dumps(own), "fingerprint": f"f{fold}",
                             "pack_family": "k", **{k: json.dumps(v) for k, v in values.items()}}
                        )  # fmt: skip
                cell += 1
    return pd.DataFrame(rows)


def results(planned, *, good=None, scanners="AB", patients=PATIENTS, seed=0, **more: Any):
    """Draw scores for every trial of a plan.

    Args:
        planned: the plan.
        good: arm or cell to how far its classes are apart; default 1.
        scanners: on which every patient is.
        patients: of each fold.
        seed: of the patients; scores of a trial depend on its name too.
    """
    trials, rows = [], []
    for order, each in enumerate(planned.drop_duplicates("trial").itertuples()):
        own = np.random.default_rng([seed, order])
        shared = np.random.default_rng([seed, 1000 + each.fold]).normal(size=patients)
        far = {1: 1.0, **(good or {})}
        gap = far.get(each.arm, far.get(each.cell, 1.0))
        trials.append({"trial": each.trial, "state": "done", "threshold": 0.0, "commit": "c",
                       "versions": "{}", "device": "cpu"})  # fmt: skip
        for p in range(patients):
            label = p % 2
            base = gap * (label - 0.5) + shared[p] + 0.3 * own.normal()
            for scanner in scanners:
                name = f"p{each.fold}-{p:03d}"
                rows.append({"trial": each.trial, "patient": name, "slide": f"{name}-s",
                             "view": f"{name}-{scanner}", "scanner": scanner, "cohort": "c",
                             "part": "test", "held_out": True, "label": label,
                             "score": np.float32(base + 0.2 * own.normal())})  # fmt: skip
    return Results(
        plan=planned, trials=pd.DataFrame(trials), predictions=pd.DataFrame(rows),
        **{"licences": {}, **more},
    )  # fmt: skip
