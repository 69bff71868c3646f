"""The models of a sweep and the scans of other data: what must be so before one meets the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from orchestrator import acquaintance, applied, render
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.kept_models import Chosen
from orchestrator.wording import joined
from training.data.index import Dataset
from training.errors import DataError

_SHOWN = 5
"""Names that a message lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Models, and the scans that they are applied to.

    Attributes:
        chosen: the models.
        data: the scans' data set.
        scans: by encoder.
        classes: names of the classes by trial; empty for a risk.
        seen: by trial, patients whom it knows, and as what.
        fingerprint: of the scans.
        notes: what a reader must know.
    """

    chosen: Chosen
    data: Dataset
    scans: Mapping[str, pd.DataFrame]
    classes: Mapping[str, tuple[str, ...] | None]
    seen: Mapping[str, Mapping[str, str]]
    fingerprint: str
    notes: list[str]


def check(folder: Folder, chosen: Chosen, root: Path, *, allow_seen: bool) -> Given:
    """Read the data, and refuse what models must not or cannot be applied to.

    Args:
        folder: the sweep.
        chosen: its models.
        root: folder of the data.
        allow_seen: whether the sweep may know patients of the data.

    Raises:
        SweepError: An encoder is missing, or the sweep knows patients.
        DataError: The data are wrong.
        StoreError: It is not known who trained the models.
    """
    from training.data import index, seen

    data = index.read(root)
    encoders = list(dict.fromkeys(chosen.models["encoder"]))
    if missing := index.missing_encoders(data, encoders):
        there = joined(sorted(data.index["encoder"].unique()))
        raise SweepError(
            f"{root}: has no embeddings of encoder {joined(missing)}; it has {there}",
            hint="choose cells with --where encoder=NAME, or make the embeddings",
        )
    scans = {encoder: index.scans(data, encoder) for encoder in encoders}
    every, mark = pd.concat(scans.values(), ignore_index=True), applied.fingerprint(scans)
    _require_sound(root, data, scans)
    scans = {
        encoder: own.assign(cohort=seen.column(data, own, "cohort"))
        for encoder, own in scans.items()
    }
    trained = acquaintance.trained_on(folder)
    before = None if trained is None else trained.index[trained.index["source_scan"] == ""]
    known = acquaintance.of_models(folder, chosen.models, every, before)
    if not allow_seen:
        _require_strangers(known)
    classes, notes = _classes(chosen, trained)
    notes += acquaintance.differences(every, before)
    return Given(
        chosen=chosen, data=data, scans=scans, classes=classes, seen=known, fingerprint=mark,
        notes=notes,
    )  # fmt: skip


def _require_sound(root: Path, data: Dataset, scans: Mapping[str, pd.DataFrame]) -> None:
    from training.data import tables

    lines = tables.repeated_patients(data.cases)
    lines += tables.contradictions(data.index[data.index["encoder"].isin(scans)], data.cases)
    lines += [f"encoder {each!r}: has augmented views only" for each in scans if scans[each].empty]
    if lines:
        raise DataError("\n".join(lines), hint=f"mend {root} or import it again: sweep index")


def _require_strangers(known: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse patients who trained, chose or tested one of the models."""
    met = sorted(
        {name for own in known.values() for name, part in own.items() if part in acquaintance.KNOWN}
    )
    if met:
        more = ", …" if len(met) > _SHOWN else ""
        shown = ", ".join(map(repr, met[:_SHOWN]))
        raise SweepError(
            f"{render.many(len(met), 'patient')} of these data trained, validated or tested the "
            f"models, by name or with the very embeddings: {shown}{more}",
            hint="leave them out of the data; or --allow-seen, which marks them in column seen",
        )


def _classes(
    chosen: Chosen, trained: Dataset | None
) -> tuple[dict[str, tuple[str, ...] | None], list[str]]:
    """Name the classes of each trial; None where only the data that are gone would tell."""
    from training.data import index

    found: dict[str, tuple[str, ...] | None] = {}
    by_task: dict[str, tuple[str, ...] | None] = {}
    unique = chosen.models.drop_duplicates("trial")
    for trial, fingerprint in unique[["trial", "fingerprint"]].itertuples(index=False):
        config = chosen.configs[trial]
        key = config.task.model_dump_json()
        if key not in by_task:
            names = () if config.task.kind == "survival" else config.task.classes
            if names is None and trained is not None:
                as_trained = acquaintance.is_as_trained(trained, config, fingerprint)
                names = index.classes(trained, config.task) if as_trained else None
            by_task[key] = names
        found[trial] = by_task[key]
    told = "names of classes are not known, since the data that the models were trained on changed "
    told += "or are gone: classes have numbers"
    return found, [told] if None in by_task.values() else []
