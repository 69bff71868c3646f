"""What the parts of a fold must hold of events. No torch here: a launch plans on a login node."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from training.config import TrialConfig
from training.config_task import Survival
from training.data import index
from training.data.index import Dataset
from training.data.outcomes import Outcome
from training.errors import DataError


def require(
    dataset: Dataset, config: TrialConfig, *, train: Sequence[str], validation: Sequence[str]
) -> None:
    """Refuse parts of a fold that a survival task cannot train or select on.

    Raises:
        DataError: Too few events; all problems at once.
    """
    if config.task.kind != "survival":
        return
    known = index.outcomes(dataset, config.task)
    lines = problems(known, train, validation, config.task.survival)
    if lines:
        raise DataError("\n".join(f"fold {config.fold}: {line}" for line in lines))


def problems(
    outcomes: Mapping[str, Outcome],
    train: Sequence[str],
    validation: Sequence[str],
    settings: Survival,
) -> list[str]:
    """Say what the outcomes of a fold's parts lack, a line each.

    Args:
        outcomes: of the patients.
        train: patients of the training part.
        validation: those of the validation part; none where nothing is validated.
        settings: of the task.
    """
    lines = []
    events = [outcomes[name].time for name in train if outcomes[name].event]
    if len(events) < 2:
        found = f"{len(events)} of {len(train)} patients with an event"
        lines.append(f"the training part has {found}; expected 2 or more")
    elif settings.loss == "discrete":
        possible = len(cuts(events, settings.num_intervals))
        if possible < settings.num_intervals:
            lines.append(
                f"task.survival.num_intervals is {settings.num_intervals}; the training part's "
                f"{len(events)} events, at {len(set(events))} times, allow for {possible}"
            )
    if validation and not any(outcomes[name].event for name in validation):
        lines.append(f"the validation part has no event among {len(validation)} patients")
    return lines


def cuts(events: Sequence[float], num: int) -> npt.NDArray[np.float64]:
    """Cut time into intervals (previous end, end] with equally many of these events, or nearly.

    Args:
        events: times of the training patients' events, at least one.
        num: how many intervals to make; tied times may allow for fewer.

    Returns:
        The ends of the intervals; the last is the last event.
    """
    places = -(-np.arange(1, num + 1) * len(events) // num) - 1
    return np.unique(np.sort(np.array(events, np.float64))[np.maximum(places, 0)])
