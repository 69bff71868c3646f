"""What each loss gets from a batch and a model's answers to it.

One function per family of losses, each a `match` on the kind; `training.objective` calls them. All
run under `torch.func.vmap` over lanes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.config import InfoNCE, ScoreLoss
from training.config_losses import (
    IRM,
    LMMD,
    MMD,
    BarlowTwins,
    CDann,
    ClamClustering,
    Coral,
    Dann,
    EmbeddingLoss,
    GroupDRO,
    Mixup,
    PairLoss,
    ScanGen,
    SupCon,
    VICReg,
    VRex,
)
from training.data.loading import Batch
from training.losses import mixup, tasks
from training.losses.cohort import CohortCox
from training.losses.embedding import embedding_loss
from training.losses.groups import coral, lmmd, mmd
from training.losses.infonce import bag_infonce, tile_infonce
from training.losses.redundancy import barlow_twins, vicreg
from training.losses.risks import irm_penalty, risks, vrex_penalty
from training.losses.score import attention_loss, score_loss
from training.losses.supcon import supcon
from training.losses.survival import Discrete, compared
from training.models import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a loss can look at.

    Attributes:
        output: the model's answers to the batch.
        batch: the batch.
        temperature: of this loss in this lane.
        project: the loss's linear projection of embeddings; the identity if it has none.
        beside: what the loss has of its own, see `Objective`; None if nothing.
        task: the task loss.
        classify: from bag embeddings to scores; None if the head scores bags itself.
        num_classes: classes of the task.
        num_groups: groups of each column that losses compare.
    """

    output: Output
    batch: Batch
    temperature: Tensor
    project: Callable[[Tensor], Tensor]
    beside: nn.Module | None
    task: tasks.Module
    classify: Callable[[Tensor], Tensor] | None
    num_classes: int
    num_groups: Mapping[str, int]


def between_scans(loss: PairLoss, call: Call) -> Float[Tensor, ""]:
    """Compute a loss between the two scans of each pair."""
    output, batch = call.output, call.batch
    match loss:
        case ScoreLoss(form="attention"):
            first, second = batch.sides(output.attention)
            return attention_loss(first, second, matched=_matched(batch))
        case ScoreLoss():
            scores = output.scores
            if isinstance(call.task, Discrete):
                scores = compared(scores, loss.form)
            first, second = batch.sides(scores)
            return score_loss(first, second, form=loss.form)
        case InfoNCE(level="tile"):
            first, second = batch.sides(output.instances)
            return tile_infonce(
                call.project(first),
                call.project(second),
                matched=_matched(batch),
                temperature=call.temperature,
                first_scanner=batch.anchors(batch.first_scanner),
                second_scanner=batch.partners(batch.second_scanner),
                patient=batch.anchors(batch.patient),
                second_patient=batch.partners(batch.patient),
                negatives=loss.negatives,
            )
        case InfoNCE() | ScanGen():
            first, second = batch.sides(output.bag)
            # ScanGen's contrast, as far as it is known, is this rule of InfoNCE.
            return bag_infonce(
                call.project(first),
                call.project(second),
                temperature=call.temperature,
                first_scanner=batch.anchors(batch.first_scanner),
                second_scanner=batch.partners(batch.second_scanner),
                patient=batch.anchors(batch.patient),
                second_patient=batch.partners(batch.patient),
                negatives=getattr(loss, "negatives", "anchor_scanner"),
            )
        case _:
            return _between_rows(loss, call)


def _matched(batch: Batch) -> Bool[Tensor, "compared instance"]:
    """Say which tiles are compared: with partners, tiles at places that each has in its own pair.

    Then instance t is another tissue place on each side: that is the control.
    """
    if batch.partner is None:
        return batch.matched
    return batch.anchors(batch.matched) & batch.partners(batch.matched)


def _between_rows(loss: EmbeddingLoss | BarlowTwins | VICReg, call: Call) -> Float[Tensor, ""]:
    output, batch = call.output, call.batch
    if loss.level == "tile":
        rows, real = output.instances, _matched(batch).flatten()
    else:
        rows = output.bag
        real = torch.ones_like(batch.anchors(batch.patient), dtype=torch.bool)
    a, b = (call.project(side).flatten(0, -2) for side in batch.sides(rows))
    match loss:
        case EmbeddingLoss():
            return embedding_loss(a, b, real=real, form=loss.form)
        case BarlowTwins():
            return barlow_twins(a, b, real=real, off_diagonal=loss.off_diagonal)
        case VICReg():
            return vicreg(
                a,
                b,
                real=real,
                invariance=loss.invariance,
                variance=loss.variance,
                covariance=loss.covariance,
            )


def between_embeddings(
    loss: SupCon | Coral | MMD | LMMD | Dann | CDann, call: Call
) -> Float[Tensor, ""]:
    """Compute a loss on the bag embeddings of groups."""
    bag, label = call.output.bag, call.batch.label
    group, num_groups = call.batch.groups[loss.group], call.num_groups[loss.group]
    match loss:
        case SupCon():
            return supcon(
                call.project(bag),
                label,
                group,
                temperature=call.temperature,
                positives=loss.positives,
            )
        case Coral():
            return coral(bag, group, num_groups=num_groups, means=loss.means)
        case MMD():
            return mmd(bag, group, num_groups=num_groups)
        case LMMD():
            return lmmd(bag, group, label, num_groups=num_groups, num_classes=call.num_classes)
        case Dann() | CDann():
            assert call.beside is not None
            told: Tensor = call.beside(bag, group, label)
            return told


def between_risks(loss: IRM | VRex | GroupDRO, call: Call) -> Float[Tensor, ""]:
    """Compute a loss on the groups' risks."""
    scores, batch, beside = call.output.scores, call.batch, call.beside
    assert beside is not None
    assert not isinstance(call.task, CohortCox), "the configuration refuses risk sets of a cohort"
    each, weight = call.task.bags(scores, batch)
    of = risks(batch.groups[loss.group], weight, num_groups=call.num_groups[loss.group])
    if isinstance(loss, GroupDRO):
        robust: Tensor = beside(each, of=of)
        # In place of the task loss, which is in the total; not where no bag has a group.
        instead: Tensor = robust - call.task(scores, batch)
        return of.present.any() * instead
    factor: Tensor = beside()
    if isinstance(loss, IRM):
        return factor * irm_penalty(call.task.slopes(scores, batch), of=of)
    return factor * vrex_penalty(each, of=of)


def on_tiles(loss: ClamClustering, call: Call) -> Float[Tensor, ""]:
    """Compute a loss between the tiles of each bag."""
    output, batch = call.output, call.batch
    assert call.beside is not None, f"{loss.kind} has classifiers of its own"
    branches = output.attention.unsqueeze(1) if output.branches is None else output.branches
    found: Tensor = call.beside(output.instances, branches, batch.mask, batch.label, batch.weight)
    return found


def of_mixtures(loss: Mixup, call: Call) -> Float[Tensor, ""]:
    """Compute the task loss of mixed bags in place of that of the bags."""
    bag, batch = call.output.bag, call.batch
    assert call.classify is not None, "the configuration refuses heads without a classifier"
    mixture = mixup.draw(batch.key, len(batch.label), loss.alpha, bag.device)
    mixed = mixup.mixup(
        bag,
        batch.label,
        batch.weight,
        classify=call.classify,
        mixture=mixture,
        smoothing=getattr(call.task, "smoothing", 0.0),
    )
    instead: Tensor = mixed - call.task(call.output.scores, batch)
    return instead
