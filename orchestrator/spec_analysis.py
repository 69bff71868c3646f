"""The primary analysis, declared before results are seen, as the key `analysis` of a spec."""

from typing import Annotated

from pydantic import Field

from training.config_base import Config

Name = Annotated[str, Field(min_length=1)]


class Analysis(Config):
    """The one comparison that the sweep is made for; no part of a trial."""

    arm: Name = Field(description="the arm that is judged")
    against: Name = Field(description="the arm that it is compared with")
    metric: Name = Field(
        description="what is compared: a metric of the main table that has an interval"
    )
    margin: float | None = Field(
        None,
        ge=0,
        description="what `margin_metric` may lose: the arm is not inferior where the interval of "
        "the difference excludes a loss of this size. Default: no such question",
    )
    margin_metric: Name | None = Field(
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
