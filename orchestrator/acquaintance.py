"""Whom the models of a sweep know: which patients of other data trained, chose or tested them.

A patient is known by name, or by a scan with the very embeddings (and tiles) of a known patient's
scan, whatever the names. The second needs the data that the sweep was trained on.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from orchestrator import inputs, spec, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import Folder
from training.config import TrialConfig
from training.errors import DataError

if TYPE_CHECKING:
    from training.data.index import Dataset

KNOWN = ("train", "validation", "test")
"""Parts of a fold whose patients have had a say, by how much; those that are held out helped to
choose between arms. Patients of an external cohort had none."""

PARTS = (*KNOWN, "external")

DESCRIBED = ("encoder_revision", "precision", "tile_um", "mpp_read", "licence")
"""What is told of embeddings beside their numbers."""


def trained_on(folder: Folder) -> "Dataset | None":
    """Read the tables of the data that the sweep was trained on; None where they are not there."""
    from training.data import index

    try:
        return index.read(inputs.path(spec.read(folder.spec), folder.root.parent))
    except (SweepError, DataError):
        return None


def is_as_trained(trained: "Dataset", config: TrialConfig, fingerprint: str) -> bool:
    """Tell whether the data are still those that a trial was trained on."""
    from training.data import folds

    try:
        return folds.fingerprint(trained, config) == fingerprint
    except DataError:
        return False


def of_models(
    folder: Folder, models: pd.DataFrame, scans: pd.DataFrame, trained: pd.DataFrame | None
) -> dict[str, dict[str, str]]:
    """Say by trial which patients of these scans it knows, and as what, one of `PARTS`.

    Args:
        folder: the sweep.
        models: trials with encoder, fold and fingerprint.
        scans: of other data: encoder, patient, checksum.
        trained: scans that the sweep was trained on; None where they are not there.

    Raises:
        StoreError: It is not known who trained a trial.
    """
    folds = store.read_folds(folder)
    keys = ["encoder", "fold", "fingerprint"]
    known = {} if folds is None else {key: own for key, own in folds.groupby(keys)}
    unique = models.drop_duplicates("trial")
    lacking = [trial for trial, *key in unique[["trial", *keys]].itertuples(index=False)
               if tuple(key) not in known]  # fmt: skip
    if lacking:
        raise StoreError(
            f"{folder.folds}: does not say on whom trial {lacking[0]} was trained",
            hint="launch the spec again: it writes the table anew, and trains nothing twice",
        )
    names = {encoder: _names(own, trained) for encoder, own in scans.groupby("encoder")}
    found: dict[tuple[object, ...], dict[str, str]] = {}
    made = {}
    for trial, *key in unique[["trial", *keys]].itertuples(index=False):
        if tuple(key) not in found:
            own = known[tuple(key)]
            parts = dict(zip(own["patient"], own["part"], strict=True))
            found[tuple(key)] = _of_split(names[key[0]], parts)
        made[trial] = found[tuple(key)]
    return made


def _names(scans: pd.DataFrame, trained: pd.DataFrame | None) -> dict[str, set[str]]:
    """Give the names that each patient may have in the sweep."""
    found = {patient: {patient} for patient in scans["patient"].unique()}
    if trained is not None:
        own = trained[trained["encoder"] == scans["encoder"].iloc[0]]
        same = scans[["patient", "checksum"]].merge(
            own[["patient", "checksum"]], on="checksum", suffixes=("", "_there")
        )
        for patient, there in same[["patient", "patient_there"]].itertuples(index=False):
            found[patient].add(there)
    return found


def _of_split(names: Mapping[str, set[str]], part: Mapping[str, str]) -> dict[str, str]:
    """Give the part of each patient who has one; of several the one with the most say."""
    found = {}
    for patient, own in names.items():
        mine = {part[name] for name in own if name in part}
        if mine:
            found[patient] = min(mine, key=PARTS.index)
    return found


def differences(scans: pd.DataFrame, trained: pd.DataFrame | None) -> list[str]:
    """Say where embeddings come otherwise about than those that models were trained on.

    Args:
        scans: of other data, with `DESCRIBED`.
        trained: scans that the sweep was trained on; None where they are not there.
    """
    if trained is None:
        return [
            "the data that the sweep was trained on are not there: revisions of encoders were not "
            "compared, and patients by their names alone"
        ]
    lines = []
    for encoder, own in scans.groupby("encoder", sort=True):
        before = trained[trained["encoder"] == encoder]
        for name in DESCRIBED:
            here, there = (sorted({_text(each) for each in frame[name]}) for frame in (own, before))
            if here != there and len(before):
                lines.append(
                    f"encoder {encoder}: {name} is {', '.join(here)}, where the models were "
                    f"trained {', '.join(there)}"
                )
    return lines


def _text(value: object) -> str:
    return "unknown" if value in ("", None) or value != value else str(value)
