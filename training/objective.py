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
    ClamClustering,
    Coral,
    Dann,
    EmbeddingLoss,
    GroupDRO,
    Mixup,
    ScanGen,
    SupCon,
    VICReg,
    VRex,
)
from training.data.loading import Batch
from training.losses import calls, tasks
from training.losses.adversarial import Discriminator
from training.losses.clam import InstanceClustering
from training.losses.risks import Annealing, GroupWeights
from training.models import MILModel, Output, build
from training.models.embedding import Dropped, EmbeddingLayer
from training.types import Bags, Mask


class Objective(nn.Module):
    """A model with its losses: total = task + sum over losses of weight × loss.

    Args:
        model: scores bags.
        task: the task loss.
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
        task: tasks.Module,
        num_classes: int,
        num_groups: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.model, self.task = model, task
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
        parts = [self.task(output.scores, batch)]
        if not self.losses:
            return parts[0], parts[0][None]
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
            case ClamClustering():
                return InstanceClustering(
                    self.model.embedding.width,
                    self.num_classes,
                    num_tiles=loss.num_tiles,
                    form=loss.form,
                    out_of_class=loss.out_of_class,
                )
            case _:
                return None

    def _robustness(
        self, number: int, loss: Loss, output: Output, batch: Batch, temperature: Tensor
    ) -> Float[Tensor, ""]:
        call = calls.Call(
            output=output,
            batch=batch,
            temperature=temperature,
            project=lambda embeddings: self._project(number, embeddings),
            beside=dict(self.beside.items()).get(str(number)),
            task=self.task,
            classify=self.model.classifier,
            num_classes=self.num_classes,
            num_groups=self.num_groups,
        )
        match loss:
            case Mixup():
                return calls.of_mixtures(loss, call)
            case ScoreLoss() | InfoNCE() | EmbeddingLoss() | BarlowTwins() | VICReg() | ScanGen():
                return calls.between_scans(loss, call)
            case SupCon() | Coral() | MMD() | LMMD() | Dann() | CDann():
                return calls.between_embeddings(loss, call)
            case IRM() | VRex() | GroupDRO():
                return calls.between_risks(loss, call)
            case ClamClustering():
                return calls.on_tiles(loss, call)

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
    num_patients: int = 0,
    base: Sequence[float] = (),
) -> Objective:
    """Make a lane's model, initialised from the seed and `base` alone, whatever the precision.

    Args:
        config: of the trial.
        seed: of torch's generator, which is put back afterwards.
        in_dim: width of the encoder's embeddings.
        num_outputs: columns of the scores.
        num_groups: groups of each column that the losses compare.
        num_patients: numbers of patients are less than this.
        base: where the scores start, a number for each; none: at their bias.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config.head, in_dim=in_dim, num_outputs=num_outputs)
        if base:
            model.start_at(base)
        made = Objective(
            model,
            config.losses,
            task=tasks.build(
                config.task,
                num_patients=num_patients,
                smoothing=config.regularisation.label_smoothing,
            ),
            num_classes=max(num_outputs, 2),
            num_groups=num_groups,
        )
        if config.precision in ("bfloat16", "float16"):
            for layer in model.embedding.layers:
                assert isinstance(layer, EmbeddingLayer)
                layer.low = getattr(torch, config.precision)
        return made.to(dtype(config))


def dtype(config: TrialConfig) -> torch.dtype:
    """Name the type of parameters, scores and losses."""
    return torch.float64 if config.precision == "float64" else torch.float32


def names(losses: Sequence[Loss]) -> list[str]:
    """Name the losses in the curves: their kind, numbered from the second of a kind."""
    kinds = [loss.kind for loss in losses]
    counts = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [
        kind if count == 1 else f"{kind}_{count}" for kind, count in zip(kinds, counts, strict=True)
    ]
