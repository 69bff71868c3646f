"""What is done to embeddings before the model sees them, as configuration.

Methods are fitted on the scans that training may draw, of training patients alone.
"""

from typing import Annotated, Literal

from pydantic import Field

from training.config_base import Config
from training.config_losses import Group


class NoInputMethod(Config):
    """Embeddings as the encoder gave them."""

    kind: Literal["none"] = Field(description="embeddings as they are")


class Centre(Config):
    """Take each group's mean away and add the mean of all."""

    kind: Literal["centre"] = Field(description="groups share one mean")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    shrinkage: float = Field(
        0.0, ge=0, le=1, description="share of a group's deviation that stays; 0: none stays"
    )


class Standardise(Config):
    """Give each group the mean and the SD of all, feature by feature."""

    kind: Literal["standardise"] = Field(description="groups share mean and SD of each feature")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    shrinkage: float = Field(
        0.0, ge=0, le=1, description="share of a group's deviation that stays; 0: none stays"
    )


class ComBat(Config):
    """Empirical-Bayes adjustment of location and scale, Johnson, Li and Rabinovic (2007)."""

    kind: Literal["combat"] = Field(description="ComBat, parametric")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    mean_only: bool = Field(False, description="adjust the location, not the scale")
    covariate: Literal["label", "none"] = Field(
        "label", description="label: what the class explains in training is kept"
    )


class Leace(Config):
    """Least-squares concept erasure of the group, Belrose et al. (NeurIPS 2023)."""

    kind: Literal["leace"] = Field(description="erase what is linearly predictive of the group")
    group: Group = Field("scanner", description="column of the index that holds the groups")


class PairedErasure(Config):
    """Project out the directions in which the scans of a slide differ most."""

    kind: Literal["paired_erasure"] = Field(
        description="project out the first principal directions of differences between scans"
    )
    rank: int = Field(4, ge=1, le=1024, description="directions that are projected out")


class Regularisation(Config):
    """Generic regularisers, the controls beside dropout and weight decay."""

    noise: float = Field(
        0.0,
        ge=0,
        description="SD of Gaussian noise on embeddings in training, in units of a feature's SD "
        "over the training scans",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a label spread evenly over the classes, in training's task loss",
    )


InputMethod = Annotated[
    NoInputMethod | Centre | Standardise | ComBat | Leace | PairedErasure,
    Field(discriminator="kind"),
]
