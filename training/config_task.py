"""What is predicted, as configuration, part of `training.config`."""

from typing import Literal

from pydantic import Field, model_validator

from training.config_base import Config
from training.config_losses import (
    IRM,
    LMMD,
    PROBABILITIES,
    CDann,
    GroupDRO,
    Loss,
    Mixup,
    ScoreLoss,
    SupCon,
    VRex,
)


class Survival(Config):
    """How a time to an event is learnt; read where the task is survival."""

    time: str = Field("time", description="column of cases.parquet: time to event or censoring")
    event: str = Field("event", description="column of cases.parquet: 1 event, 0 censored")
    loss: Literal["cox", "discrete"] = Field(
        "cox",
        description="cox: partial likelihood of a log-risk (Cox, 1972); discrete: hazards of "
        "intervals (Gensheimer and Narasimhan, 2019)",
    )
    ties: Literal["efron", "breslow"] = Field("efron", description="cox: how tied events count")
    strata: tuple[str, ...] = Field(
        (), description="cox: columns of cases.parquet; risk sets stay inside a stratum"
    )
    risk_set: Literal["batch", "cohort"] = Field(
        "batch",
        description="cox: who is at risk with an event of a batch. batch: patients of the batch, "
        "which is biased where batches are small; cohort: all training patients, the others with "
        "the log-risk they had when last seen",
    )
    num_intervals: int = Field(
        10, ge=2, le=200, description="discrete: intervals with equally many training events"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Survival":
        names = (self.time, self.event, *self.strata)
        if len(set(names)) < len(names):
            raise ValueError(
                f"column {twice(names)!r} is named twice; expected time, event and strata apart"
            )
        if self.loss == "discrete" and self.strata:
            raise ValueError("strata are of the cox loss; discrete has none")
        if self.loss == "discrete" and self.risk_set == "cohort":
            raise ValueError("risk_set: cohort is of the cox loss; discrete has no risk sets")
        return self


class Task(Config):
    """What is predicted, from which column of `cases.parquet`."""

    kind: Literal["binary", "multiclass", "survival"] = Field(
        "binary",
        description="binary: one logit; multiclass: one logit per class; survival: a log-risk",
    )
    label: str = Field("label", description="column of cases.parquet that holds the class")
    classes: tuple[str, ...] | None = Field(
        None,
        description="the classes in order, as written in the label column; for a binary task the "
        "second is the positive one. Default: the sorted distinct values",
    )
    survival: Survival = Field(
        Survival(), description="of a survival task", json_schema_extra={"added": True}
    )

    @model_validator(mode="after")
    def _tells_classes_apart(self) -> "Task":
        names = self.classes
        if self.kind == "survival" and names is not None:
            raise ValueError("a survival task has no classes")
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"classes holds {twice(names)!r} twice; expected each class once")
        if names is not None and (len(names) < 2 or (self.kind == "binary" and len(names) > 2)):
            wanted = "2" if self.kind == "binary" else "at least 2"
            raise ValueError(f"classes holds {len(names)}; expected {wanted} for kind {self.kind}")
        return self


def refusal(task: Task, metric: str, losses: tuple[Loss, ...], *, alone: bool) -> str:
    """Say what of a trial does not go with its task; empty if all does.

    Args:
        task: of the trial.
        metric: the validation value, `stopping.metric`.
        losses: robustness losses of the trial.
        alone: whether a batch holds one patient.
    """
    if task.kind != "survival":
        known = "auroc, loss or inconsistency"
        wrong = metric == "concordance"
        return f"concordance is of survival tasks; set stopping.metric to {known}" if wrong else ""
    if metric == "auroc":
        return "a survival task has no auroc; set stopping.metric to concordance or loss"
    settings = task.survival
    if alone and (settings.loss, settings.risk_set) == ("cox", "batch"):
        return (
            "a risk set of one patient teaches nothing: sampling.slides_per_batch must be at least "
            "2, or task.survival.risk_set cohort"
        )
    for loss in losses:
        if isinstance(loss, SupCon | LMMD | CDann | Mixup):
            return f"{loss.kind} needs classes, which a survival task has not"
        if settings.loss == "cox" and isinstance(loss, ScoreLoss) and loss.form in PROBABILITIES:
            return f"score of form {loss.form} needs probabilities, which a log-risk has not"
        if settings.risk_set == "cohort" and isinstance(loss, IRM | VRex | GroupDRO):
            return f"{loss.kind} needs risk sets inside the batch, task.survival.risk_set: batch"
    return ""


def twice(names: tuple[str, ...]) -> str:
    """Find the first name that occurs more than once."""
    return next(name for name in names if names.count(name) > 1)
