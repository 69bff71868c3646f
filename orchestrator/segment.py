"""From the results of a pack's lanes to the tables of its segment."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from orchestrator.spec_artefacts import Artefacts

if TYPE_CHECKING:
    from training.artefacts import Keep
    from training.trainer import LaneResult


def tables(
    trials: Sequence[str], results: Sequence["LaneResult"], shared: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Make the tables `trials`, `curves` and `predictions`.

    Args:
        trials: trial ids, one per lane.
        results: what the lanes came to.
        shared: columns of `trials` that all lanes have in common.
    """
    pairs = list(zip(trials, results, strict=True))
    rows = [
        {
            "trial": trial, "lane": lane, "state": result.state, "failure": result.failure,
            "epoch": result.epoch, "epochs_trained": result.epochs_trained,
            "threshold": result.threshold, "validation": result.validation, **shared,
            **(result.kept.measured if result.kept else {}),
        }
        for lane, (trial, result) in enumerate(pairs)
    ]  # fmt: skip
    curves = [
        (trial, epoch, quantity, float(value))
        for trial, result in pairs
        for quantity, values in result.curves.items()
        for epoch, value in enumerate(values, 1)
    ]
    predictions = [result.predictions.assign(trial=trial) for trial, result in pairs]
    joined = pd.concat([frame for frame in predictions if len(frame)] or predictions[:1])
    return {
        "trials": pd.DataFrame(rows),
        "curves": _curves(curves),
        "predictions": joined[["trial", *joined.columns.drop("trial")]].reset_index(drop=True),
    }


def version(code: str) -> dict[str, str]:
    """Return the columns `commit` and `versions` from the JSON of `provenance.code()`."""
    versions = json.loads(code or "{}")
    changes = "" if versions.pop("clean", True) else "+changes"
    commit = f"{versions.pop('commit', '')}{changes}"
    return {"commit": commit, "versions": json.dumps(versions, sort_keys=True)}


def licence(index: pd.DataFrame, encoder: str) -> str:
    """Return the terms of an encoder's embeddings, which hold for what is trained on them."""
    return ", ".join(sorted(set(index.loc[index["encoder"] == encoder, "licence"]) - {""}))


def artefacts(
    trials: Sequence[str], results: Sequence["LaneResult"], *, weights: bool
) -> dict[str, Mapping[str, Any] | pd.DataFrame]:
    """Return what lanes that are done leave beside the tables, by the stem of its file.

    `scans` says which scans the rows of `embeddings` and `attention` are, for all lanes of the
    pack: they train on one fold.

    Args:
        trials: trial ids, one per lane.
        results: what the lanes came to.
        weights: whether the chosen weights are kept, a file per trial.
    """
    done = [(trial, r) for trial, r in zip(trials, results, strict=True) if r.state == "done"]
    kept = [(trial, r.kept) for trial, r in done if r.kept is not None]
    found: dict[str, Mapping[str, Any] | pd.DataFrame] = {}
    if weights:
        found |= {f"weights-{trial}": result.weights for trial, result in done}
    arrays: dict[str, dict[str, Any]] = {"embeddings": {}, "attention": {}}
    tables: dict[str, list[pd.DataFrame]] = {"attention_agreement": [], "gradient_energy": []}
    for trial, its in kept:
        if its.embeddings is not None:
            arrays["embeddings"][trial] = its.embeddings
        if its.tile is not None and its.weight is not None:
            arrays["attention"] |= {f"{trial}.tile": its.tile, f"{trial}.weight": its.weight}
        for name, frame in (
            ("attention_agreement", its.agreement),
            ("gradient_energy", its.gradients),
        ):
            tables[name] += [] if frame is None else [frame.assign(trial=trial)]
    found |= {name: named for name, named in arrays.items() if named}
    if found.keys() & arrays.keys():
        found["scans"] = kept[0][1].scans
    return found | {name: pd.concat(frames) for name, frames in tables.items() if frames}


def _curves(rows: Sequence[tuple[str, int, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["trial", "epoch", "quantity", "value"])
    return frame.astype({"trial": "str", "epoch": "int64", "quantity": "str", "value": "float64"})


def keep(wanted: Artefacts) -> "Keep":
    """Say to the trainer what a spec wants kept."""
    from training.artefacts import Keep

    return Keep(
        embeddings=wanted.embeddings == "evaluation",
        attention=wanted.attention == "top",
        gradients=wanted.gradients == "energy",
        views=wanted.views == "shift",
    )
