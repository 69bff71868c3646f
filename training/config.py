"""The configuration of a trial: everything that can change its result, and nothing else.

Paths, devices, packing and log settings are not here. `config_id` and a lane's companions follow
from these fields (`orchestrator.trial`, `lane_key`). No torch in this module: the command line
reads it.

A field added after the first release carries `json_schema_extra={"added": True}`; it is left out of
the identity while it has its default, so that a new option does not retrain old work.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from training.config_base import Config as Config
from training.config_heads import AttentionHead as AttentionHead
from training.config_heads import GatedAttentionHead as GatedAttentionHead
from training.config_heads import Head as Head
from training.config_heads import MaxHead as MaxHead
from training.config_heads import MeanHead as MeanHead
from training.config_losses import GroupLoss, Mixup, PairLoss, blind, compares_pairs
from training.config_losses import InfoNCE as InfoNCE
from training.config_losses import Loss as Loss
from training.config_losses import MixStyle as MixStyle
from training.config_losses import ScoreLoss as ScoreLoss


class Task(Config):
    """What is predicted, from which column of `cases.parquet`."""

    kind: Literal["binary", "multiclass"] = Field(
        "binary", description="binary: one logit; multiclass: one logit per class"
    )
    label: str = Field("label", description="column of cases.parquet that holds the class")
    classes: tuple[str, ...] | None = Field(
        None,
        description="the classes in order, as written in the label column; for a binary task the "
        "second is the positive one. Default: the sorted distinct values",
    )

    @model_validator(mode="after")
    def _tells_classes_apart(self) -> "Task":
        names = self.classes
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"classes holds {_twice(names)!r} twice; expected each class once")
        if names is not None and (len(names) < 2 or (self.kind == "binary" and len(names) > 2)):
            wanted = "2" if self.kind == "binary" else "at least 2"
            raise ValueError(f"classes holds {len(names)}; expected {wanted} for kind {self.kind}")
        return self


class Sampling(Config):
    """What a batch is made of."""

    slides_per_batch: int = Field(16, ge=1, description="routine scans drawn per step")
    pairs_per_batch: int = Field(
        16, ge=1, description="paired slides added per step, both scans, where views is all"
    )
    tiles_per_bag: int | None = Field(
        None, ge=1, description="tiles drawn per bag and step; null: the whole bag"
    )


class Optim(Config):
    """AdamW (Loshchilov and Hutter, 2019) and its schedule."""

    lr: float = Field(3e-4, gt=0, description="learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="decoupled weight decay")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; null: none")
    epochs: int = Field(20, ge=1, description="passes over the routine training scans")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="cosine: to zero over all steps, after the warm-up"
    )
    warmup_epochs: int = Field(
        0, ge=0, description="epochs of linear warm-up, fewer than there are epochs"
    )

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "Optim":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be less than epochs, {self.epochs}")
        return self


class Stopping(Config):
    """Which epoch counts, decided on validation patients inside the training part."""

    validation_share: float = Field(
        0.2, ge=0, lt=1, description="share of the training patients kept for validation; 0: none"
    )
    epoch: Literal["best", "last"] = Field(
        "best", description="best: the epoch of the best validation value; last: the last one"
    )
    metric: Literal["loss", "auroc"] = Field("auroc", description="the validation value")
    patience: int | None = Field(
        None, ge=1, description="epochs without improvement before the lane stops; null: never"
    )
    threshold: Literal["validation", "half"] = Field(
        "validation",
        description="decision threshold of a binary task: best balanced accuracy on the validation "
        "patients, or probability one half",
    )

    @model_validator(mode="after")
    def _needs_validation(self) -> "Stopping":
        if self.validation_share == 0 and (
            self.epoch == "best" or self.patience is not None or self.threshold == "validation"
        ):
            raise ValueError(
                "validation_share is 0, so epoch must be 'last', patience null and threshold 'half'"
            )
        return self


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


Folds = Annotated[StratifiedFolds | GivenFolds | CohortFolds, Field(discriminator="kind")]


class TrialConfig(Config):
    """One fully resolved configuration: with the data it fixes the result."""

    encoder: str = Field(description="encoder of the embeddings, as named in index.parquet")
    task: Task = Field(description="what is predicted")
    head: Head = Field(description="the MIL model")
    losses: tuple[Loss, ...] = Field((), description="robustness losses beside the task loss")
    views: Literal["routine", "all"] = Field(
        "routine", description="routine: one scan per slide; all: paired slides with both scans too"
    )
    unseen_scanners: tuple[str, ...] = Field(
        (), description="scanners kept out of training and selection, and evaluated apart"
    )
    sampling: Sampling = Field(Sampling(), description="what a batch is made of")
    mixstyle: MixStyle = Field(
        MixStyle(),
        description="mixes the statistics of bags before the model",
        json_schema_extra={"added": True},
    )
    optim: Optim = Field(Optim(), description="optimiser and schedule")
    stopping: Stopping = Field(Stopping(), description="which epoch counts")
    folds: Folds = Field(description="which patients are held out")
    fold: int = Field(ge=0, description="number of the fold")
    seed: int = Field(description="drives initialisation and dropout")
    draw_seed: int = Field(0, description="drives bag order and tile draws, shared by all arms")
    shuffle_labels: bool = Field(
        False, description="control: labels permuted over the training patients; AUROC must be .5"
    )
    precision: Literal["float32", "float64"] = Field(
        "float32", description="arithmetic of the model"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TrialConfig":
        if self.views == "routine" and any(isinstance(each, PairLoss) for each in self.losses):
            raise ValueError("losses between scans need views: all")
        for loss in self.losses:
            if blind(loss, self.head.kind):
                raise ValueError(f"{loss.kind} changes nothing in a head of kind {self.head.kind}")
            if isinstance(loss, Mixup) and self.head.kind in ("clam_mb", "dsmil"):
                raise ValueError(
                    f"mixup needs a head that scores bag embeddings alone, not {self.head.kind}"
                )
        scanners = self.unseen_scanners
        if len(set(scanners)) < len(scanners):
            raise ValueError(f"unseen_scanners holds {_twice(scanners)!r} twice; expected it once")
        total = num_folds(self.folds)
        if self.fold >= total:
            raise ValueError(f"fold {self.fold} does not exist: there are {total}")
        return self

    @model_validator(mode="after")
    def _enough_to_compare(self) -> "TrialConfig":
        sizes = self.sampling
        for loss in self.losses:
            if isinstance(loss, GroupLoss | Mixup):
                if self.views == "routine" and sizes.slides_per_batch < 2:
                    raise ValueError(f"{loss.kind} needs sampling.slides_per_batch of at least 2")
            elif isinstance(loss, InfoNCE) and loss.level == "tile":
                if sizes.tiles_per_bag is None:
                    raise ValueError(
                        "infonce of level tile needs a number for sampling.tiles_per_bag"
                    )
            elif compares_pairs(loss) and sizes.pairs_per_batch < 2:
                raise ValueError(
                    f"{loss.kind} of level bag needs sampling.pairs_per_batch of at least 2"
                )
        folds, share = self.folds, self.stopping.validation_share
        if isinstance(folds, CohortFolds) and folds.num_folds > 1 and not share:
            raise ValueError(
                "folds of a cohort differ in their validation part, so "
                "stopping.validation_share must not be 0"
            )
        return self


def _twice(names: tuple[str, ...]) -> str:
    return next(name for name in names if names.count(name) > 1)


def num_folds(folds: StratifiedFolds | GivenFolds | CohortFolds) -> int:
    """Count the folds, over all repetitions."""
    return folds.num_folds * (folds.repetitions if isinstance(folds, GivenFolds) else 1)


def lane_key(config: TrialConfig) -> str:
    """Name the pack family: equal for trials that can train as lanes of one pass.

    Lanes may differ in seed, learning rate, weight decay, clipping, and in the weight and
    temperature of a loss; everything else must agree.
    """
    shared: dict[str, Any] = config.model_dump(mode="json", exclude={"seed"})
    for name in ("lr", "weight_decay", "clip"):
        del shared["optim"][name]
    for loss in shared["losses"]:
        loss.pop("weight")
        loss.pop("temperature", None)
    text = json.dumps(shared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
