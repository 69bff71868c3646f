"""From models and scans to the rows of the table of `sweep predict`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from orchestrator import acquaintance, applied, kept_models
from orchestrator.predict_check import Given

_LANES = 32
"""Models that share a pass over the scans, at most; a bound on their memory."""

Scores = Mapping[str, np.ndarray]
"""By trial, [scan, class]."""


def scores(given: Given, report: Callable[[int, int], None]) -> Scores:
    """Apply every model once, those of a family together.

    Args:
        given: models and scans.
        report: called with the scores that are made, and those in all.
    """
    from training import applying
    from training.applying import Model

    models = given.chosen.models.drop_duplicates("trial").sort_values("fold", kind="stable")
    families: dict[str, list[tuple[str, Path]]] = {}
    for trial, path in models[["trial", "weights"]].itertuples(index=False):
        families.setdefault(applying.family(given.chosen.configs[trial]), []).append((trial, path))
    sizes = {encoder: len(own) for encoder, own in given.scans.items()}
    total, done = int(models["encoder"].map(sizes).sum()), 0

    def note(more: int) -> None:
        nonlocal done
        done += more
        report(done, total)

    found: dict[str, np.ndarray] = {}
    for members in families.values():
        for start in range(0, len(members), _LANES):
            part = members[start : start + _LANES]
            read = [
                Model(
                    name=str(path),
                    config=given.chosen.configs[trial],
                    weights=kept_models.read_weights(path),
                )
                for trial, path in part
            ]
            scans = given.scans[read[0].config.encoder]
            made = applying.scores(read, given.data, scans, report=note)
            found |= {trial: own for (trial, _), own in zip(part, made, strict=True)}
    return found


def frames(given: Given, made: Scores, *, ensemble: bool) -> Iterator[pd.DataFrame]:
    """Tabulate the scores, a frame per model or ensemble, all of the same columns."""
    own = ["cell", "encoder", "arm", *given.chosen.axes]
    columns = _columns(given, made, own, ensemble=ensemble)
    keys = ["cell"] if ensemble else ["cell", "fold", "seed", "trial"]
    for _, members in given.chosen.models.groupby(keys, sort=False):
        row, trials = members.iloc[0], list(members["trial"])
        scans, score = given.scans[row["encoder"]], made[trials[0]]
        if ensemble:
            score = np.mean([made[each].astype(np.float64) for each in trials], axis=0)
        seen = _seen([given.seen[each] for each in trials])
        about = {name: row[name] for name in own}
        about |= {"trial": applied.ENSEMBLE if ensemble else trials[0], "models": len(trials)}
        about |= {} if ensemble else {name: row[name] for name in ("fold", "seed")}
        frame = pd.DataFrame(about, index=scans.index).assign(
            **{name: scans[name] for name in applied.SCANS},
            seen=[seen.get(patient, "") for patient in scans["patient"]],
        )
        threshold = float(members["threshold"].mean())
        yield frame.join(_told(given, trials[0], score, threshold)).reindex(columns=columns)


def _told(given: Given, trial: str, score: np.ndarray, threshold: float) -> pd.DataFrame:
    """Tell scores and classes; these have numbers where their names are not known."""
    task, names = given.chosen.configs[trial].task, given.classes[trial]
    if names is None:
        names = tuple(map(str, range(max(2, score.shape[1]))))
    return applied.told(score, threshold, task, names)


def _columns(given: Given, made: Scores, own: Sequence[str], *, ensemble: bool) -> list[str]:
    """Name the columns of all frames: tasks differ in those of their scores."""
    place = [] if ensemble else ["fold", "seed"]
    right: dict[str, None] = {}
    for trial, score in made.items():
        right |= dict.fromkeys(map(str, _told(given, trial, score[:0], 0.0).columns[:-2]))
    left = [*own, "trial", "models", *place, *applied.SCANS, "seen"]
    return [*left, *right, "threshold", "predicted"]


def _seen(known: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Join what several models know of patients: the part with the most say."""
    found: dict[str, str] = {}
    for own in known:
        for patient, part in own.items():
            found[patient] = min(found.get(patient, part), part, key=acquaintance.PARTS.index)
    return found
