"""From the rows of a spec and the data to trials with their ids; pure.

Every split of the data is made, checked and fingerprinted once.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from orchestrator import trial
from orchestrator.spec import Row
from orchestrator.trial import Trial
from training.config import TrialConfig

if TYPE_CHECKING:
    from training.data.folds import Split
    from training.data.index import Dataset


def trials(
    rows: Sequence[Row], dataset: "Dataset | None"
) -> "tuple[list[Trial], dict[str, int], dict[tuple[str, int, str], Split]]":
    """Identify the trial of each row.

    Returns:
        The trials; of each encoder without views, how many trials lack it; and the splits by
        encoder, fold and fingerprint.

    Raises:
        DataError: The data do not allow the folds, or a split leaks; all problems at once.
    """
    encoders = list(dict.fromkeys(row.encoder for row in rows))
    absent = set(encoders)
    if dataset is not None:
        from training.data import index

        absent = set(index.missing_encoders(dataset, encoders))
    known = _identified([row for row in rows if row.encoder not in absent], dataset)
    made = []
    missing = dict.fromkeys((name for name in encoders if name in absent), 0)
    fingerprints: dict[Hashable, str] = {}
    for row in rows:
        alike = _alike(row.config)
        if alike not in fingerprints:
            gone = row.encoder in absent
            fingerprints[alike] = "" if gone else known[_data_key(row.config)][0]
        made.append(trial.make(row.config, fingerprints[alike]))
    for item in {item.id: item for item in made}.values():
        if item.config.encoder in absent:
            missing[item.config.encoder] += 1
    splits = {(key[0], key[1], name): split for key, (name, split) in known.items()}
    return made, missing, splits


def _data_key(config: TrialConfig) -> tuple[str, int, Hashable]:
    """What of a configuration decides which data it reads, and how they are split."""
    share, draw = config.stopping.validation_share, config.draw_seed
    away = (config.unseen_scanners, config.external_cohorts)
    views, judged = config.pairs == "augmented", config.stopping.compares_scanners
    how = (config.task, config.folds, share, draw, *away, views, judged)
    return (config.encoder, config.fold, how)


def _alike(config: TrialConfig) -> Hashable:
    """Tell configurations apart that may read other data, by their very objects: quick.

    Cells share the objects of equal settings, seeds and folds of a cell all but two numbers.
    """
    parts = (config.task, config.folds, config.stopping, config.losses, config.input)
    away = (config.unseen_scanners, config.external_cohorts)
    rest = (config.encoder, config.fold, config.draw_seed, config.views, config.pairs)
    return (*rest, *map(id, (*parts, *away)))


def _identified(
    rows: Sequence[Row], dataset: "Dataset | None"
) -> "dict[tuple[str, int, Hashable], tuple[str, Split]]":
    """Fingerprint every split once; all problems of all splits come as one error."""
    if dataset is None or not rows:
        return {}
    from training.data import folds
    from training.errors import DataError

    known: dict[tuple[str, int, Hashable], tuple[str, Split]] = {}
    problems: dict[str, DataError] = {}
    # Of configurations with one split, one that needs pairs is checked for them as well.
    different = {_alike(row.config): row for row in rows}.values()
    strictest = sorted(different, key=lambda row: row.config.views == "all")
    for config in {
        (_data_key(row.config), _asks(row.config)): row.config for row in strictest
    }.values():
        key = _data_key(config)
        try:
            if key in known:
                folds.split(dataset, config)
            else:
                known[key] = folds.identify(dataset, config)
        except DataError as error:
            problems.setdefault(error.message, error)
    if problems:
        first = next(iter(problems.values()))
        raise DataError("\n".join(problems), hint=first.hint) from first
    return known


def _asks(config: TrialConfig) -> Hashable:
    """What of a configuration asks more of the training scans than their split does."""
    compared = {getattr(loss, "group", "") for loss in config.losses} - {""}
    if not compared and config.input.kind == "none":
        return ()
    return (config.views, config.input, *sorted(compared))
