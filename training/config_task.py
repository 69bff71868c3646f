"""What is predicted, as configuration, part of `training.config`."""

from typing import Literal

from pydantic import Field, model_validator

from training.config_base import Config


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


def twice(names: tuple[str, ...]) -> str:
    """Find the first name that occurs more than once."""
    return next(name for name in names if names.count(name) > 1)
