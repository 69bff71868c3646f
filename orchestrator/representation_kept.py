"""Measures what segments keep of embeddings, trial by trial, and the encoders' own beside them.

A trial takes about a second (`measure_representation`). Same segments and data give the same
numbers.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from orchestrator import files, measure_representation, store
from orchestrator.aggregate import Joined
from orchestrator.errors import StoreError
from orchestrator.folder import Folder
from orchestrator.measure_representation import Measures
from training.data.bags import BagReader
from training.data.index import Dataset

Report = Callable[[int, int], None]
"""Is called with the sets of embeddings measured and those in all."""


@dataclass(slots=True, kw_only=True)
class Measured:
    """What was measured.

    Attributes:
        trials: by trial.
        encoders: by encoder and fold.
    """

    trials: dict[str, Measures] = field(default_factory=dict)
    encoders: dict[tuple[str, int], Measures] = field(default_factory=dict)


def measure(
    folder: Folder,
    plan: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    joined: Joined,
    dataset: Dataset | None,
    report: Report,
) -> Measured:
    """Measure the trials of cells that have values, and their encoders.

    Args:
        folder: the sweep.
        plan: its plan.
        predictions: its predictions, which have the labels.
        joined: plan and results.
        dataset: the data; None leaves the encoders out.
        report: called after each.

    Raises:
        StoreError: There are no embeddings, or none that can be read, of the right scans.
        DataError: A bag cannot be read.
    """
    rows = joined.rows[~joined.rows["cell"].isin(joined.holes)]
    wanted = set(rows["trial"]) & set(joined.known.index)
    sets = _kept(folder, wanted)
    if not sets:
        raise StoreError(
            f"{folder.root}: no trial that counts here kept its embeddings",
            hint="a sweep keeps them with artefacts: {embeddings: evaluation} in its spec",
        )
    held_out = predictions[predictions["held_out"].eq(True) & predictions["trial"].isin(wanted)]
    labels = {str(t): its for t, its in held_out.set_index("view").groupby("trial")["label"]}
    patients = pd.Index(np.unique(held_out["patient"].astype(str)))
    trials = _trials(plan)
    firsts = {(trials[t].encoder, trials[t].fold): t for t in sorted(sets, reverse=True)}
    total = len(sets) + (0 if dataset is None else len(firsts))
    made = Measured()

    def measured(trial: str, embeddings: np.ndarray) -> Measures:
        report(len(made.trials) + len(made.encoders), total)
        table = sets[trial].scans
        whole, table = len(table), table[table["part"].eq("test")]
        label = labels[trial].reindex(table["view"])
        if whole != len(embeddings) or label.isna().any():
            raise StoreError(f"trial {trial}: kept embeddings are not of its held-out scans")
        own = trials[trial]
        table = table.assign(label=label.to_numpy() if own.has_classes else -1)
        scans = measure_representation.scans(table, patients)
        return measure_representation.measure(embeddings, scans, fold=own.fold)

    with threadpool_limits(limits=1):  # the products are small, and so have the same bits anywhere
        for trial, kept in sets.items():
            made.trials[trial] = measured(trial, kept.embeddings(trial))
        for (encoder, fold), trial in sorted(firsts.items()):
            pooled = _mean_pooled(dataset, encoder, sets[trial].scans["view"].tolist())
            if pooled is not None:
                made.encoders[encoder, fold] = measured(trial, pooled)
    report(total, total)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Kept embeddings of a segment: its scans, and the file."""

    scans: pd.DataFrame
    path: Path

    def embeddings(self, trial: str) -> np.ndarray:
        """Read those of a trial."""
        with files.tensors(self.path) as file:
            array: np.ndarray = file.get_tensor(trial)
        return array


def _kept(folder: Folder, wanted: set[str]) -> dict[str, _Kept]:
    """Find the kept embeddings of trials, in the order of their ids."""
    found: dict[str, _Kept] = {}
    for segment, trials in store.counting(folder).items():
        path = segment / "artefacts" / "embeddings.safetensors"
        if not (trials & wanted) or not path.is_file():
            continue
        with files.tensors(path) as file:
            there = trials & wanted & set(file.keys())
        kept = _Kept(scans=files.read_frame(path.with_name("scans.parquet")), path=path)
        found |= dict.fromkeys(there, kept)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    encoder: str
    fold: int
    has_classes: bool


def _trials(plan: pd.DataFrame) -> dict[str, _Trial]:
    rows = plan.drop_duplicates("trial")
    columns = (rows[name].tolist() for name in ("trial", "encoder", "fold", "config"))
    return {
        trial: _Trial(
            encoder=encoder,
            fold=int(fold),
            has_classes=json.loads(config).get("task", {}).get("kind") != "survival",
        )
        for trial, encoder, fold, config in zip(*columns, strict=True)
    }


def _mean_pooled(dataset: Dataset | None, encoder: str, views: list[str]) -> np.ndarray | None:
    """Average the tiles of each view; None where the data have not all of them any more."""
    if dataset is None:
        return None
    index = dataset.index[dataset.index["encoder"] == encoder]
    rows = {row.view: row for row in index[index["view"].isin(views)].itertuples(index=False)}
    if len(rows) < len(views):
        return None
    reader = BagReader(dataset.root)
    return np.stack([reader.whole(rows[view]).astype(np.float64).mean(0) for view in views])
