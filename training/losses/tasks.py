"""The task loss of a trial, as a module: classes, or a survival task's."""

from training.config_task import Task
from training.losses.cohort import CohortCox
from training.losses.survival import Cox, Discrete
from training.losses.task import Classes

Module = Classes | Cox | CohortCox | Discrete
"""What a task asks of the scores of a batch: its loss, and that of each bag."""


def build(task: Task, *, num_patients: int, smoothing: float) -> Module:
    """Make the task loss.

    Args:
        task: of the configuration.
        num_patients: numbers of patients in the batches are less than this.
        smoothing: of the labels of classes.
    """
    settings = task.survival
    if task.kind != "survival":
        return Classes(smoothing)
    if settings.loss == "discrete":
        return Discrete()
    if settings.risk_set == "cohort":
        return CohortCox(settings.ties, num_patients)
    return Cox(settings.ties)
