"""The guard: refuses a split that leaks, and one that cannot train.

A split leaks if a patient is in two parts, if a slide or an augmented view ties two patients, or if
the same bag is stored under two patients in different parts.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from training.config import LeaveOneOutFolds, TrialConfig
from training.data import groups, paired, seen, tables
from training.data.index import Dataset
from training.data.shuffling import shuffled
from training.errors import DataError

MOST = 20
"""Identical bags that an error names."""


def refuse(
    parts: Mapping[str, Sequence[str]],
    dataset: Dataset,
    config: TrialConfig,
    *,
    views: pd.DataFrame,
    label: Mapping[str, int],
) -> None:
    """Refuse a split that leaks or cannot train.

    Args:
        parts: patients of train, validation, test and external.
        dataset: all of it.
        config: of the trial.
        views: scans of the trial's encoder, and the augmented views that train.
        label: class number of every patient of the parts.

    Raises:
        DataError: All that is wrong with it.
    """
    lines = [
        f"slide {slide!r}: belongs to several patients: {tables.joined(patients)}"
        for slide, patients in tables.ambiguous(views, "slide", "patient").items()
    ]
    part: dict[str, str] = {}
    for name, patients in parts.items():
        needed = {"validation": config.stopping.validation_share > 0, "external": False}
        if needed.get(name, True) and not patients:
            lines.append(f"the {name} part has no patients")
        lines += [
            f"patient {patient!r}: in the {part[patient]} and the {name} part"
            for patient in patients
            if patient in part
        ]
        part.update(dict.fromkeys(patients, name))
    lines += _cannot_train(parts, dataset, config, views, dict(label))
    if config.task.kind != "survival":
        if parts["train"] and len({label[patient] for patient in parts["train"]}) < 2:
            lines.append("the training part has one class only")
        lines += _without_class(parts, label)
    lines += _divided_bags(part, views)
    lines += _foreign_copies(dataset.index[dataset.index["encoder"] == config.encoder], views)
    if lines:
        raise DataError(f"fold {config.fold}: " + f"\nfold {config.fold}: ".join(lines))


def same_bags(views: pd.DataFrame) -> Iterable[list[str]]:
    """Group patients under whom the same bag is stored."""
    known = views[views["checksum"] != ""]
    return tables.ambiguous(known, "checksum", "patient").values()


def _divided_bags(part: Mapping[str, str], views: pd.DataFrame) -> Iterable[str]:
    """Find bags that are stored under patients of different parts; name the first ones."""
    lines = []
    for owners in same_bags(views):
        where = {part[patient] for patient in owners if patient in part}
        if len(where) > 1:
            lines.append(
                f"patients {tables.joined(owners[:8])}{', …' if len(owners) > 8 else ''}: share an "
                f"identical bag, in parts {tables.joined(sorted(where))}"
            )
    more = len(lines) - MOST
    return [*lines[:MOST], *([f"{more} more identical bags like these"] if more > 0 else [])]


def _cannot_train(
    parts: Mapping[str, Sequence[str]],
    dataset: Dataset,
    config: TrialConfig,
    views: pd.DataFrame,
    label: dict[str, int],
) -> Iterable[str]:
    """Find what the seen scans lack: scans to train or select on, groups, pairs."""
    if not parts["train"]:
        return
    kept = seen.is_seen(dataset, views, config)
    found = views[kept].assign(routine=seen.routine(dataset, views, config)[kept])
    train = found[found["patient"].isin(parts["train"])]
    left = isinstance(config.folds, LeaveOneOutFolds)
    if config.unseen_scanners or left:
        key = "unseen_scanners" if config.unseen_scanners else "folds"
        if not train["routine"].any():
            yield f"{key}: no routine scan of a training patient is on a seen scanner"
        if parts["validation"] and not found["patient"].isin(parts["validation"]).any():
            yield f"{key}: no scan of a validation patient is on a seen scanner"
    drawn = train[_drawn(train, config)]
    yield from groups.problems(drawn, config)
    if config.shuffle_labels:
        label = label | shuffled(label, [*parts["train"], *parts["validation"]], config)
    yield from groups.input_problems(drawn[drawn["source_scan"] == ""], config, label)
    yield from paired.problems(found[found["patient"].isin(parts["validation"])], config)
    if config.pairs == "augmented" and (train["source_scan"] == "").all():
        yield "pairs is 'augmented', but no training scan on a seen scanner has an augmented view"
    elif config.views == "all" and config.pairs != "augmented":
        known = train[train["scanner"] != ""]
        if not tables.ambiguous(known, "slide", "scanner"):
            yield "views is 'all', but no training slide has scans on two seen scanners"


def _drawn(train: pd.DataFrame, config: TrialConfig) -> "pd.Series[bool]":
    """Tell which training scans a batch can hold: routine ones, and those of pairs."""
    if config.views == "routine":
        return train["routine"]
    if config.pairs == "augmented":
        viewed = train.loc[train["source_scan"] != "", "source_scan"]
        return train["routine"] | train["scan"].isin(viewed) | (train["source_scan"] != "")
    named = train["scanner"] != ""
    scanners = train["scanner"].where(named).groupby(train["slide"]).transform("nunique")
    return train["routine"] | (named & (scanners > 1))


def _without_class(parts: Mapping[str, Sequence[str]], label: Mapping[str, int]) -> Iterable[str]:
    """Find classes that only patients of external cohorts have."""
    inside = {
        label[patient]
        for name, patients in parts.items()
        for patient in patients
        if name != "external"
    }
    for number in sorted({label[patient] for patient in parts["external"]} - inside):
        yield f"only patients of external cohorts have class {number}"


def _foreign_copies(every: pd.DataFrame, scans: pd.DataFrame) -> Iterable[str]:
    """Find augmented views that were made from a scan of another patient."""
    copies = every.loc[every["source_scan"] != "", ["view", "patient", "source_scan"]]
    if copies.empty:
        return
    owner = dict(zip(scans["scan"], scans["patient"], strict=True))
    for view, patient, source in copies.itertuples(index=False):
        if owner.get(source, patient) != patient:
            yield (
                f"view {view!r} of patient {patient!r}: is made from scan {source!r} of patient "
                f"{owner[source]!r}"
            )
