"""The primary analysis, declared before results are seen, as the key `analysis` of a spec."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from training.config_base import Config

Name = Annotated[str, Field(min_length=1)]
Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "brier",
    "auroc",
    "concordance",
    "inconsistency",
    "flip_rate",
    "worst_scanner_auroc",
    "unseen_scanner_auroc",
    "worst_scanner_balanced_accuracy",
    "unseen_scanner_balanced_accuracy",
    "worst_scanner_concordance",
    "unseen_scanner_concordance",
    "auroc_gap",
    "balanced_accuracy_gap",
    "concordance_gap",
    "external_auroc",
    "external_concordance",
]
"""Metrics that have intervals (`evidence_draws.METRICS`)."""

OF_SURVIVAL = (
    *(name for name in get_args(Metric) if "concordance" in name),
    "inconsistency",
)
OF_CLASSES = tuple(name for name in get_args(Metric) if "concordance" not in name)


class Analysis(Config):
    """The one comparison that the sweep is made for; no part of a trial."""

    arm: Name = Field(description="the arm that is judged")
    against: Name = Field(description="the arm that it is compared with")
    metric: Metric = Field(description="what is compared")
    margin: float | None = Field(
        None,
        ge=0,
        description="what `margin_metric` may lose: the arm is not inferior where the interval of "
        "the difference excludes a loss of this size. Default: no such question",
    )
    margin_metric: Metric | None = Field(
        None, description="what may lose `margin`. Default: `metric`"
    )
    family: Annotated[list[Name], Field(min_length=1)] | None = Field(
        None,
        description="encoders in which the comparison is tested, adjusted together by Holm's "
        "method. Default: all of the spec",
    )
    where: dict[str, str | int | float | bool | None] = Field(
        {}, description="axes to values: the setting of the arm, where it has several. Without it, "
        "`select` chooses one in each fold",
    )  # fmt: skip
