"""The robustness losses as configuration, part of `training.config`.

Three families: losses between the scans of a slide need pairs (views: all); losses between groups
compare the bags of a batch by a column of the index, whatever the views; losses on labels replace
the task loss, for which weight 1 is the paper's method. CLAM's clustering loss is none of these: it
belongs to its heads, and is no robustness loss. Weights and temperatures are a lane's own,
everything else of a loss is shared in a pack.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from training.config_base import Config

Group = Literal["scanner", "site", "lab", "stain"]
Level = Literal["bag", "tile"]


class InfoNCE(Config):
    """Symmetric InfoNCE between the scans of a slide (reconstruction of arXiv 2602.22347)."""

    kind: Literal["infonce"] = Field(description="InfoNCE between scans")
    weight: float = Field(1.0, ge=0, description="weight of the loss, lambda_e")
    level: Literal["bag", "tile"] = Field(
        "bag", description="bag: bag embeddings; tile: tile embeddings of the same tissue place"
    )
    temperature: float = Field(0.1, gt=0, description="softmax temperature tau")
    negatives: Literal["other_scanner", "anchor_scanner", "mixed"] = Field(
        "other_scanner",
        description="which scans the negatives come from: the positive's scanner (scanner identity "
        "cannot help), the anchor's own scanner (strongest pressure), or any",
    )
    projection_dim: int = Field(
        0, ge=0, le=8192, description="width of a linear projection before the loss; 0: none"
    )


class ScoreLoss(Config):
    """Distance between the scores of the scans of a slide (reconstruction, forms S1 to S6)."""

    kind: Literal["score"] = Field(description="score consistency between scans")
    weight: float = Field(1.0, ge=0, description="weight of the loss, lambda_s")
    form: Literal[
        "logit_mse", "probability_mse", "variance", "jensen_shannon", "huber", "attention"
    ] = Field(
        "logit_mse",
        description="S1 logit_mse, S2 probability_mse, S3 variance over the two scans of a pair, a "
        "quarter of S1, S4 jensen_shannon, S5 huber on the logit, S6 attention: Jensen-Shannon on "
        "the attention of shared places",
    )


PROBABILITIES = ("probability_mse", "jensen_shannon")
"""Forms of the score loss that compare probabilities."""


class EmbeddingLoss(Config):
    """Distance between the embeddings of the scans of a slide."""

    kind: Literal["embedding"] = Field(description="embedding distance between scans")
    weight: float = Field(1.0, ge=0, description="weight of the loss")
    level: Level = Field(
        "bag", description="bag: bag embeddings; tile: tile embeddings of the same tissue place"
    )
    form: Literal["mse", "cosine"] = Field(
        "mse", description="mse: mean squared difference; cosine: one minus the cosine"
    )


class BarlowTwins(Config):
    """Barlow Twins between the scans of a slide, Zbontar et al. (ICML 2021)."""

    kind: Literal["barlow_twins"] = Field(description="Barlow Twins between scans")
    weight: float = Field(1.0, ge=0, description="weight of the loss")
    level: Level = Field(
        "bag", description="bag: bag embeddings; tile: tile embeddings of the same tissue place"
    )
    off_diagonal: float = Field(5e-3, ge=0, description="weight of the redundancy term, beta")
    projection_dim: int = Field(
        0, ge=0, le=8192, description="width of a linear projection before the loss; 0: none"
    )


class VICReg(Config):
    """Variance-invariance-covariance between the scans of a slide, Bardes et al. (ICLR 2022)."""

    kind: Literal["vicreg"] = Field(description="VICReg between scans")
    weight: float = Field(1.0, ge=0, description="weight of the loss as a whole")
    level: Level = Field(
        "bag", description="bag: bag embeddings; tile: tile embeddings of the same tissue place"
    )
    invariance: float = Field(25.0, ge=0, description="weight of the squared distance")
    variance: float = Field(25.0, ge=0, description="weight of the hinge on the SD of each unit")
    covariance: float = Field(1.0, ge=0, description="weight of the squared covariances")
    projection_dim: int = Field(
        0, ge=0, le=8192, description="width of a linear projection before the loss; 0: none"
    )


class ScanGen(Config):
    """ScanGen-style contrast between slides (after Carloni et al., 2025; formula not seen)."""

    kind: Literal["scangen"] = Field(
        description="attract the slide's other scan, repel other slides of the anchor's scanner"
    )
    weight: float = Field(1.0, ge=0, description="weight of the loss")
    temperature: float = Field(0.1, gt=0, description="softmax temperature tau")
    projection_dim: int = Field(
        0, ge=0, le=8192, description="width of a linear projection before the loss; 0: none"
    )


class Coral(Config):
    """Deep CORAL between groups, Sun and Saenko (ECCV workshops 2016), as in DomainBed."""

    kind: Literal["coral"] = Field(description="mean and covariance alignment between groups")
    weight: float = Field(1.0, ge=0, description="weight of the loss, gamma")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    means: bool = Field(
        True, description="also the squared difference of the means, as DomainBed does"
    )


class MMD(Config):
    """Maximum mean discrepancy between groups, kernels as in DomainBed."""

    kind: Literal["mmd"] = Field(description="maximum mean discrepancy between groups")
    weight: float = Field(1.0, ge=0, description="weight of the loss, gamma")
    group: Group = Field("scanner", description="column of the index that holds the groups")


class LMMD(Config):
    """Maximum mean discrepancy between groups within each class (Zhu et al., 2021)."""

    kind: Literal["lmmd"] = Field(description="maximum mean discrepancy within each class")
    weight: float = Field(1.0, ge=0, description="weight of the loss")
    group: Group = Field("scanner", description="column of the index that holds the groups")


class Dann(Config):
    """Domain-adversarial training with gradient reversal, Ganin et al. (JMLR 2016)."""

    kind: Literal["dann"] = Field(description="a discriminator must not tell the groups apart")
    weight: float = Field(1.0, ge=0, description="weight of the reversed gradient, lambda")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    discriminator_dims: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (256, 256), description="widths of the discriminator's hidden layers"
    )


class CDann(Config):
    """Class-conditional adversarial training, Li et al. (ECCV 2018), as in DomainBed."""

    kind: Literal["cdann"] = Field(
        description="a discriminator that knows the class must not tell the groups apart"
    )
    weight: float = Field(1.0, ge=0, description="weight of the reversed gradient, lambda")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    discriminator_dims: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (256, 256), description="widths of the discriminator's hidden layers"
    )


class IRM(Config):
    """The invariant-risk penalty IRMv1, Arjovsky et al. (2019)."""

    kind: Literal["irm"] = Field(description="invariant risk minimisation, penalty of IRMv1")
    weight: float = Field(100.0, ge=0, description="weight of the penalty, lambda")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    anneal_steps: int = Field(0, ge=0, description="steps before the penalty begins")


class VRex(Config):
    """The variance of the groups' risks, Krueger et al. (ICML 2021)."""

    kind: Literal["vrex"] = Field(description="risk extrapolation: variance of the groups' risks")
    weight: float = Field(10.0, ge=0, description="weight of the variance, beta")
    group: Group = Field("scanner", description="column of the index that holds the groups")
    anneal_steps: int = Field(0, ge=0, description="steps before the penalty begins")


class GroupDRO(Config):
    """Distributionally robust optimisation over groups, Sagawa et al. (ICLR 2020)."""

    kind: Literal["group_dro"] = Field(description="weighs groups by their past risk")
    weight: float = Field(
        1.0, ge=0, le=1, description="share of the task loss that is replaced; 1: the paper's"
    )
    group: Group = Field("scanner", description="column of the index that holds the groups")
    eta: float = Field(1e-2, ge=0, description="step size of the groups' weights")


class SupCon(Config):
    """Supervised contrastive loss between bags, Khosla et al. (NeurIPS 2020)."""

    kind: Literal["supcon"] = Field(description="attract bags of a class, repel those of others")
    weight: float = Field(1.0, ge=0, description="weight of the loss")
    temperature: float = Field(0.1, gt=0, description="softmax temperature tau")
    positives: Literal["class", "other_group"] = Field(
        "class", description="class: bags of the class; other_group: those of other groups only"
    )
    group: Group = Field("scanner", description="column of the index that holds the groups")
    projection_dim: int = Field(
        0, ge=0, le=8192, description="width of a linear projection before the loss; 0: none"
    )


class Mixup(Config):
    """Mixup of bag embeddings, Zhang et al. (ICLR 2018), at a hidden layer as Verma et al."""

    kind: Literal["mixup"] = Field(description="trains on mixtures of two bag embeddings")
    weight: float = Field(
        1.0, ge=0, le=1, description="share of the task loss that is replaced; 1: the paper's"
    )
    alpha: float = Field(0.2, gt=0, description="both parameters of the beta distribution")


class ClamClustering(Config):
    """The instance clustering loss of CLAM, Lu et al. (2021)."""

    kind: Literal["clam_clustering"] = Field(
        description="tells the most attended tiles from the least attended (CLAM)"
    )
    weight: float = Field(
        0.43, ge=0, description="weight of the loss; .3 beside .7, the paper's, is 3/7"
    )
    num_tiles: int = Field(8, ge=1, le=4096, description="tiles of each label, B")
    form: Literal["smooth_svm", "cross_entropy"] = Field(
        "smooth_svm", description="loss of a tile; smooth_svm, the paper's, has a margin of 1"
    )
    out_of_class: bool = Field(
        False, description="also label 0 for the most attended tiles of the other classes"
    )


class MixStyle(Config):
    """MixStyle on the encoder's embeddings, Zhou, Yang, Qiao and Xiang (ICLR 2021)."""

    probability: float = Field(
        0.0, ge=0, le=1, description="share of steps whose bags' tile statistics are mixed; 0: off"
    )
    alpha: float = Field(0.1, gt=0, description="both parameters of the beta distribution")


PairLoss: TypeAlias = InfoNCE | ScoreLoss | EmbeddingLoss | BarlowTwins | VICReg | ScanGen
"""Between the scans of a slide."""

GroupLoss: TypeAlias = Coral | MMD | LMMD | Dann | CDann | IRM | VRex | GroupDRO | SupCon
"""Between groups of bags."""

Loss = Annotated[PairLoss | GroupLoss | Mixup | ClamClustering, Field(discriminator="kind")]


def blind(loss: Loss, head: str) -> bool:
    """Say whether the loss cannot change anything in a model with this kind of head."""
    if isinstance(loss, ScoreLoss):
        return loss.form == "attention" and head in ("mean", "max", "linear_probe")
    if isinstance(loss, Mixup):
        return False
    return head == "linear_probe" and not isinstance(loss, IRM | VRex | GroupDRO)


def compares_pairs(loss: Loss) -> bool:
    """Say whether the loss compares each pair of bags with the other pairs of a batch."""
    compares = isinstance(loss, InfoNCE | BarlowTwins | VICReg | ScanGen)
    return compares and getattr(loss, "level", "bag") == "bag"
