"""Who is held out, as configuration, part of `training.config`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config_base import Config


class StratifiedFolds(Config):
    """Patient-grouped folds with equal class shares."""

    kind: Literal["stratified"] = Field(description="patient-grouped stratified k-fold")
    num_folds: int = Field(5, ge=2, description="number of folds")
    seed: int = Field(0, description="seed of the assignment")


class GivenFolds(Config):
    """The user's folds, from `folds.parquet` (`sweep index … --folds`).

    A patient in no fold of a repetition takes no part in it, neither training nor test.
    """

    kind: Literal["given"] = Field(description="folds that came with the data")
    num_folds: int = Field(ge=2, description="folds in one repetition")
    repetitions: int = Field(
        1,
        ge=1,
        description="repetitions; fold f is fold f % num_folds of repetition f // num_folds",
    )


class CohortFolds(Config):
    """Train on some cohorts, hold out another as a whole; folds differ in the validation part."""

    kind: Literal["cohort"] = Field(description="an independent test cohort")
    train: tuple[str, ...] = Field(min_length=1, description="cohorts for training")
    test: tuple[str, ...] = Field(min_length=1, description="cohorts held out")
    num_folds: int = Field(
        1,
        ge=1,
        description="each fold validates on another 1/num_folds of the training patients "
        "(with 1: on validation_share of them)",
    )
    seed: int = Field(0, description="seed of the assignment")

    @model_validator(mode="after")
    def _holds_out(self) -> "CohortFolds":
        both = sorted({*self.train} & {*self.test})
        if both:
            raise ValueError(f"cohort {both[0]!r} is in train and in test; expected one of them")
        return self


class LeaveOneOutFolds(Config):
    """Hold out one site, lab, stain, cohort or scanner after the other.

    The patients with a scan of the value are held out, or with `num_folds` above 1 one stratified
    part of them after the other; no scan of the value trains or validates. With several parts the
    others of its patients train with what they have elsewhere: the way for paired scans, where
    every patient has every scanner. Fold f is part f % num_folds of value f // num_folds.

    The held-out patients are tested on their scans of the value; where it is a scanner, on all
    their scans, and the value is an unseen scanner of the fold. A slide whose routine scan is of
    the value trains with its first other scan in its place.
    """

    kind: Literal["leave_one_out"] = Field(description="one value of a column held out per fold")
    column: Literal["scanner", "site", "lab", "stain", "cohort"] = Field(
        description="column of the index whose values are held out in turn"
    )
    values: tuple[str, ...] = Field(
        min_length=1, description="the values in turn, as written in the column"
    )
    num_folds: int = Field(1, ge=1, description="parts of the patients held out in turn, per value")
    seed: int = Field(0, description="seed of the assignment")

    @model_validator(mode="after")
    def _once(self) -> "LeaveOneOutFolds":
        for value in self.values:
            if not value or self.values.count(value) > 1:
                raise ValueError(f"values holds {value!r}; expected each name once, none empty")
        return self


class SitePreservedFolds(Config):
    """Whole sites in one fold each, with class shares as equal as they can be.

    Howard et al., Nature Communications 12:4423, 2021.
    """

    kind: Literal["site_preserved"] = Field(description="sites are not divided between folds")
    column: Literal["site", "lab", "scanner", "stain"] = Field(
        "site", description="column of the index that holds the sites"
    )
    num_folds: int = Field(3, ge=2, description="number of folds")
    seed: int = Field(0, description="seed of the validation part")


Folds = Annotated[
    StratifiedFolds | GivenFolds | CohortFolds | LeaveOneOutFolds | SitePreservedFolds,
    Field(discriminator="kind"),
]


def left_out(folds: Folds, fold: int) -> tuple[str, str] | None:
    """Give the column, and its value that a fold leaves out; None for folds of other kinds."""
    if not isinstance(folds, LeaveOneOutFolds):
        return None
    return folds.column, folds.values[fold // folds.num_folds]


def num_folds(folds: Folds) -> int:
    """Count the folds, over all repetitions and values."""
    match folds:
        case GivenFolds():
            return folds.num_folds * folds.repetitions
        case LeaveOneOutFolds():
            return folds.num_folds * len(folds.values)
        case _:
            return folds.num_folds
