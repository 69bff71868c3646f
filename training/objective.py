"""What a lane minimises: the task loss plus weighted robustness losses.

The model and the losses' projections are one module, so that they are one lane's parameters.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.config import InfoNCE, Loss, ScoreLoss, TrialConfig
from training.config_losses import (
    IRM,
    LMMD,
    MMD,
    BarlowTwins,
    CDann,
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
from training.losses import mixup
from training.losses.adversarial import Discriminator
from training.losses.embedding import embedding_loss
from training.losses.groups import coral, lmmd, mmd
from training.losses.infonce import bag_infonce, tile_infonce
from training.losses.redundancy import barlow_twins, vicreg
from training.losses.risks import Annealing, GroupWeights, irm_penalty, risks, vrex_penalty
from training.losses.score import attention_loss, score_loss
from training.losses.supcon import supcon
from training.losses.task import task_loss
from training.models import MILModel, Output, build
from training.models.embedding import Dropped
from training.types import Bags, Mask


class Objective(nn.Module):
    """A model with its losses: total = task + sum over losses of weight × loss.

    Args:
        model: scores bags.
        losses: robustness losses; weights and temperatures are arguments of `forward`, since lanes
            differ in them.
        num_classes: classes of the task.
        num_groups: groups of each column that the losses compare.
    """

    def __init__(
        self,
        model: MILModel,
        losses: Sequence[Loss],
        *,
        num_classes: int,
        num_groups: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.model = model
        self.losses = tuple(losses)
        self.num_classes, self.num_groups = num_classes, dict(num_groups)
        self.projections = nn.ModuleDict(
            {
                str(number): nn.Linear(
                    _width(model, loss), getattr(loss, "projection_dim", 0), bias=False
                )
                for number, loss in enumerate(losses)
                if getattr(loss, "projection_dim", 0)
            }
        )
        made = ((str(number), self._beside(loss)) for number, loss in enumerate(losses))
        self.beside = nn.ModuleDict({number: module for number, module in made if module})

    def forward(
        self,
        bags: Bags,
        mask: Mask,
        dropped: tuple[Dropped, ...],
        weights: Float[Tensor, " loss"],
        temperatures: Float[Tensor, " loss"],
        batch: Batch | None,
        observed: bool = False,
    ) -> tuple[Tensor, ...]:
        """Compute (total, task and robustness losses); without a batch, the scores.

        Where they are observed, bag embeddings and attention come with the scores.
        """
        output = self.model(bags, mask, dropped)
        if batch is None:
            rest = (output.bag, output.attention) if observed else ()
            return output.scores, *rest
        parts = [task_loss(output.scores, batch.label, batch.weight)]
        for number, loss in enumerate(self.losses):
            parts.append(self._robustness(number, loss, output, batch, temperatures[number]))
        parted = torch.stack(parts)
        return parted[0] + (weights * parted[1:]).sum(), parted

    def _beside(self, loss: Loss) -> nn.Module | None:
        """Make what a loss has of its own: parameters that learn, or a memory in buffers."""
        match loss:
            case Dann() | CDann():
                return Discriminator(
                    self.model.bag_width,
                    loss.discriminator_dims,
                    num_groups=self.num_groups[loss.group],
                    num_classes=self.num_classes if isinstance(loss, CDann) else 0,
                )
            case IRM() | VRex():
                return Annealing(loss.anneal_steps)
            case GroupDRO():
                return GroupWeights(self.num_groups[loss.group], loss.eta)
            case _:
                return None

    def _robustness(
        self, number: int, loss: Loss, output: Output, batch: Batch, temperature: Tensor
    ) -> Float[Tensor, ""]:
        match loss:
            case Mixup():
                return self._mixup(loss, output, batch)
            case ScoreLoss() | InfoNCE() | EmbeddingLoss() | BarlowTwins() | VICReg() | ScanGen():
                return self._between_scans(number, loss, output, batch, temperature)
            case SupCon() | Coral() | MMD() | LMMD() | Dann() | CDann():
                return self._between_embeddings(number, loss, output, batch, temperature)
            case IRM() | VRex() | GroupDRO():
                return self._between_risks(number, loss, output, batch)

    def _between_scans(
        self, number: int, loss: PairLoss, output: Output, batch: Batch, temperature: Tensor
    ) -> Float[Tensor, ""]:
        match loss:
            case ScoreLoss(form="attention"):
                first, second = output.attention[batch.first], output.attention[batch.second]
                return attention_loss(first, second, matched=batch.matched)
            case ScoreLoss():
                first, second = output.scores[batch.first], output.scores[batch.second]
                return score_loss(first, second, form=loss.form)
            case InfoNCE(level="tile"):
                return tile_infonce(
                    self._project(number, output.instances[batch.first]),
                    self._project(number, output.instances[batch.second]),
                    matched=batch.matched,
                    temperature=temperature,
                    first_scanner=batch.first_scanner,
                    second_scanner=batch.second_scanner,
                    patient=batch.patient,
                    negatives=loss.negatives,
                )
            case InfoNCE() | ScanGen():
                # ScanGen's contrast, as far as it is known, is this rule of InfoNCE.
                return bag_infonce(
                    self._project(number, output.bag[batch.first]),
                    self._project(number, output.bag[batch.second]),
                    temperature=temperature,
                    first_scanner=batch.first_scanner,
                    second_scanner=batch.second_scanner,
                    patient=batch.patient,
                    negatives=getattr(loss, "negatives", "anchor_scanner"),
                )
            case _:
                return self._between_rows(number, loss, output, batch)

    def _between_rows(
        self,
        number: int,
        loss: EmbeddingLoss | BarlowTwins | VICReg,
        output: Output,
        batch: Batch,
    ) -> Float[Tensor, ""]:
        rows, real = output.bag, torch.ones_like(batch.patient, dtype=torch.bool)
        if loss.level == "tile":
            rows, real = output.instances, batch.matched.flatten()
        a, b = (
            self._project(number, rows[side]).flatten(0, -2) for side in (batch.first, batch.second)
        )
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

    def _between_embeddings(
        self,
        number: int,
        loss: SupCon | Coral | MMD | LMMD | Dann | CDann,
        output: Output,
        batch: Batch,
        temperature: Tensor,
    ) -> Float[Tensor, ""]:
        group, num_groups = batch.groups[loss.group], self.num_groups[loss.group]
        match loss:
            case SupCon():
                return supcon(
                    self._project(number, output.bag),
                    batch.label,
                    group,
                    temperature=temperature,
                    positives=loss.positives,
                )
            case Coral():
                return coral(output.bag, group, num_groups=num_groups, means=loss.means)
            case MMD():
                return mmd(output.bag, group, num_groups=num_groups)
            case LMMD():
                return lmmd(
                    output.bag,
                    group,
                    batch.label,
                    num_groups=num_groups,
                    num_classes=self.num_classes,
                )
            case Dann() | CDann():
                told: Tensor = self.beside[str(number)](output.bag, group, batch.label)
                return told

    def _between_risks(
        self, number: int, loss: IRM | VRex | GroupDRO, output: Output, batch: Batch
    ) -> Float[Tensor, ""]:
        num_groups, beside = self.num_groups[loss.group], self.beside[str(number)]
        of = risks(batch.groups[loss.group], batch.weight, num_groups=num_groups)
        if isinstance(loss, GroupDRO):
            robust: Tensor = beside(output.scores, batch.label, of=of)
            # In place of the task loss, which is in the total; not where no bag has a group.
            instead = robust - task_loss(output.scores, batch.label, batch.weight)
            return of.present.any() * instead
        penalty = irm_penalty if isinstance(loss, IRM) else vrex_penalty
        factor: Tensor = beside()
        return factor * penalty(output.scores, batch.label, of=of)

    def _mixup(self, loss: Mixup, output: Output, batch: Batch) -> Float[Tensor, ""]:
        classify = self.model.classifier
        assert classify is not None, "the configuration refuses heads without a classifier"
        mixture = mixup.draw(batch.key, len(batch.label), loss.alpha, output.bag.device)
        mixed = mixup.mixup(
            output.bag, batch.label, batch.weight, classify=classify, mixture=mixture
        )
        return mixed - task_loss(output.scores, batch.label, batch.weight)

    def _project(self, number: int, embeddings: Tensor) -> Tensor:
        if str(number) not in self.projections:
            return embeddings
        rows: Tensor = self.projections[str(number)](embeddings.flatten(0, -2))
        return rows.view(*embeddings.shape[:-1], rows.shape[-1])


def _width(model: MILModel, loss: Loss) -> int:
    tiles = getattr(loss, "level", "bag") == "tile"
    return model.embedding.width if tiles else model.bag_width


def initialise(
    config: TrialConfig,
    seed: int,
    *,
    in_dim: int,
    num_outputs: int,
    num_groups: Mapping[str, int] = MappingProxyType({}),
) -> Objective:
    """Make a lane's model, initialised from the seed alone, whatever the precision.

    Args:
        config: of the trial.
        seed: of torch's generator, which is put back afterwards.
        in_dim: width of the encoder's embeddings.
        num_outputs: columns of the scores.
        num_groups: groups of each column that the losses compare.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config.head, in_dim=in_dim, num_outputs=num_outputs)
        made = Objective(
            model, config.losses, num_classes=max(num_outputs, 2), num_groups=num_groups
        )
        return made.to(getattr(torch, config.precision))


def names(losses: Sequence[Loss]) -> list[str]:
    """Name the losses in the curves: their kind, numbered from the second of a kind."""
    kinds = [loss.kind for loss in losses]
    counts = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [
        kind if count == 1 else f"{kind}_{count}" for kind, count in zip(kinds, counts, strict=True)
    ]
