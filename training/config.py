"""The configuration of a trial: everything that can change its result, and nothing else.

Paths, devices, packing and log settings are not here. `config_id` and a lane's companions follow
from these fields (`orchestrator.trial`, `lane_key`). No torch in this module: the command line
reads it.

A field added after the first release carries `json_schema_extra={"added": True}`; it is left out of
the identity while it has its default, so that a new option does not retrain old work.
"""

from typing import Literal

from pydantic import Field, model_validator

from training.config_base import Config as Config
from training.config_folds import CohortFolds as CohortFolds
from training.config_folds import Folds as Folds
from training.config_folds import GivenFolds as GivenFolds
from training.config_folds import LeaveOneOutFolds as LeaveOneOutFolds
from training.config_folds import SitePreservedFolds as SitePreservedFolds
from training.config_folds import StratifiedFolds as StratifiedFolds
from training.config_folds import left_out as left_out
from training.config_folds import num_folds as num_folds
from training.config_heads import AttentionHead as AttentionHead
from training.config_heads import GatedAttentionHead as GatedAttentionHead
from training.config_heads import Head as Head
from training.config_heads import MaxHead as MaxHead
from training.config_heads import MeanHead as MeanHead
from training.config_inputs import InputMethod as InputMethod
from training.config_inputs import NoInputMethod as NoInputMethod
from training.config_inputs import PairedErasure, Regularisation
from training.config_lanes import lane_key as lane_key
from training.config_losses import (
    ClamClustering,
    GroupDRO,
    GroupLoss,
    Mixup,
    PairLoss,
    blind,
    compares_pairs,
)
from training.config_losses import InfoNCE as InfoNCE
from training.config_losses import Loss as Loss
from training.config_losses import MixStyle as MixStyle
from training.config_losses import ScoreLoss as ScoreLoss
from training.config_pairs import Pairs, problems
from training.config_task import Survival as Survival
from training.config_task import Task as Task
from training.config_task import refusal, twice


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
    epoch: Literal["best", "last", "within_margin"] = Field(
        "best",
        description="best: the epoch of the best validation value; last: the last one; "
        "within_margin: the least inconsistent epoch among those whose value is within `margin` "
        "of the best",
    )
    metric: Literal["loss", "auroc", "concordance", "inconsistency"] = Field(
        "auroc",
        description="the validation value: loss; auroc of classes or concordance (Harrell) of a "
        "survival task, mean over scanners; inconsistency of slides with several scans",
    )
    margin: float = Field(
        0.01,
        ge=0,
        description="what the value may lose with within_margin",
        json_schema_extra={"added": True},
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without improvement before the lane stops; null: never"
    )
    threshold: Literal["validation", "half"] = Field(
        "validation",
        description="decision threshold of a binary task: best balanced accuracy on the validation "
        "patients, or probability one half",
    )

    @property
    def compares_scanners(self) -> bool:
        """Whether an epoch is judged by its inconsistency, too."""
        return self.metric == "inconsistency" or self.epoch == "within_margin"

    @model_validator(mode="after")
    def _needs_validation(self) -> "Stopping":
        if self.validation_share == 0 and (
            self.epoch != "last" or self.patience is not None or self.threshold == "validation"
        ):
            raise ValueError(
                "validation_share is 0, so epoch must be 'last', patience null and threshold 'half'"
            )
        if self.epoch == "within_margin" and self.metric == "inconsistency":
            raise ValueError("within_margin needs a metric of accuracy, not inconsistency")
        return self


class TrialConfig(Config):
    """One fully resolved configuration: with the data it fixes the result."""

    encoder: str = Field(description="encoder of the embeddings, as named in index.parquet")
    task: Task = Field(description="what is predicted")
    head: Head = Field(description="the MIL model")
    losses: tuple[Loss, ...] = Field((), description="robustness losses beside the task loss")
    views: Literal["routine", "all"] = Field(
        "routine", description="routine: one scan per slide; all: paired slides with both scans too"
    )
    pairs: Pairs = Field(
        "scans",
        description="what pair losses compare. scans: two scans of a slide; controls: shuffled, "
        "scans of different slides; same_scan, two draws of one scan's tiles; augmented, a scan "
        "and a view made from it",
        json_schema_extra={"added": True},
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
    input: InputMethod = Field(
        NoInputMethod(kind="none"),
        description="what is done to embeddings, fitted on training patients",
        json_schema_extra={"added": True},
    )
    regularisation: Regularisation = Field(
        Regularisation(),
        description="generic regularisers beside dropout and weight decay",
        json_schema_extra={"added": True},
    )
    optim: Optim = Field(Optim(), description="optimiser and schedule")
    stopping: Stopping = Field(Stopping(), description="which epoch counts")
    folds: Folds = Field(description="which patients are held out")
    fold: int = Field(ge=0, description="number of the fold")
    external_cohorts: tuple[str, ...] = Field(
        (),
        description="locked cohorts: in no fold, seen by no selection, predicted and told apart",
        json_schema_extra={"added": True},
    )
    seed: int = Field(description="drives initialisation and dropout")
    draw_seed: int = Field(0, description="drives bag order and tile draws, shared by all arms")
    shuffle_labels: bool = Field(
        False, description="control: labels permuted over the training patients; AUROC must be .5"
    )
    test_time: Literal["each_scan", "mean_over_scans"] = Field(
        "each_scan",
        description="control: mean_over_scans gives every scan of a slide the mean of its scores",
        json_schema_extra={"added": True},
    )
    precision: Literal["float32", "float64", "bfloat16", "float16"] = Field(
        "float32",
        description="arithmetic of the model; bfloat16, float16: of the products with the tile "
        "embedding's weights, the rest and all losses in float32",
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
            if isinstance(loss, ClamClustering) and self.head.kind not in ("clam_sb", "clam_mb"):
                raise ValueError(
                    f"clam_clustering needs a head of kind clam_sb or clam_mb, not {self.head.kind}"
                )
            if isinstance(loss, ClamClustering) and self.task.kind == "survival":
                raise ValueError("clam_clustering needs classes, not a survival task")
        instead = sum(each.weight for each in self.losses if isinstance(each, Mixup | GroupDRO))
        if instead > 1 + 1e-9:
            raise ValueError(
                f"mixup and group_dro replace shares of the task loss, {instead:g} of it together; "
                "expected weights of at most 1 in all"
            )
        if self.precision in ("bfloat16", "float16") and not self.head.embed_dims:
            raise ValueError(
                f"precision: {self.precision} changes nothing in a head of kind {self.head.kind}"
            )
        if self.pairs != "scans" and self.views == "routine":
            raise ValueError(f"pairs: {self.pairs} needs views: all")
        several = self.sampling.pairs_per_batch
        for problem in problems(self.pairs, self.losses, pairs_per_batch=several):
            raise ValueError(problem)
        if self.task.kind == "survival" and self.regularisation.label_smoothing:
            raise ValueError("regularisation.label_smoothing needs classes, not a survival task")
        if isinstance(self.input, PairedErasure) and self.views == "routine":
            raise ValueError("paired_erasure needs views: all")
        scanners = self.unseen_scanners
        if len(set(scanners)) < len(scanners):
            raise ValueError(f"unseen_scanners holds {twice(scanners)!r} twice; expected it once")
        total = num_folds(self.folds)
        if self.fold >= total:
            raise ValueError(f"fold {self.fold} does not exist: there are {total}")
        return self

    @model_validator(mode="after")
    def _locks_what_no_fold_has(self) -> "TrialConfig":
        locked, folds = self.external_cohorts, self.folds
        if len(set(locked)) < len(locked):
            raise ValueError(f"external_cohorts holds {twice(locked)!r} twice; expected it once")
        named: dict[str, tuple[str, ...]] = {}
        if isinstance(folds, CohortFolds):
            named = {"folds.train": folds.train, "folds.test": folds.test}
        elif isinstance(folds, LeaveOneOutFolds) and folds.column == "cohort":
            named = {"folds.values": folds.values}
        for key, names in named.items():
            for name in names:
                if name in locked:
                    raise ValueError(
                        f"cohort {name!r} is in external_cohorts and in {key}; expected one of them"
                    )
        return self

    @model_validator(mode="after")
    def _goes_with_the_task(self) -> "TrialConfig":
        alone = self.views == "routine" and self.sampling.slides_per_batch < 2
        wrong = refusal(self.task, self.stopping.metric, self.losses, alone=alone)
        if wrong:
            raise ValueError(wrong)
        if self.task.kind == "survival" and self.regularisation.label_smoothing:
            raise ValueError("label_smoothing needs classes, which a survival task has not")
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


def unseen_scanners(config: TrialConfig) -> tuple[str, ...]:
    """Name the scanners that a trial may not train on: as configured, and what its fold leaves out.

    Code asks this, not the field.
    """
    column, value = left_out(config.folds, config.fold) or ("", "")
    more = (value,) if column == "scanner" else ()
    return tuple(dict.fromkeys((*config.unseen_scanners, *more)))
