"""What a lane minimises: the task loss plus weighted robustness losses.

The model and the losses' projections are one module, so that they are one lane's parameters.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
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
from training.lanes import Group, Lanes
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

        Weights and temperatures may be more than there are losses: other lanes have more. Where
        they are observed, bag embeddings and attention come with the scores.
        """
        output = self.model(bags, mask, dropped)
        if batch is None:
            rest = (output.bag, output.attention) if observed else ()
            return output.scores, *rest
        return self._losses(output, weights, temperatures, batch)

    def answer(self, bags: Bags, mask: Mask, dropped: tuple[Dropped, ...]) -> tuple[Tensor, ...]:
        """Give what `judge` needs of the model's answers; the same whatever the losses."""
        return tuple(each for each in self.model(bags, mask, dropped) if each is not None)

    def judge(
        self,
        weights: Float[Tensor, " loss"],
        temperatures: Float[Tensor, " loss"],
        *rest: Any,
    ) -> tuple[Tensor, Tensor]:
        """Compute (total, task and robustness losses); the rest is the answers, then the batch."""
        *answers, batch = rest
        return self._losses(Output(*answers), weights, temperatures, batch)

    def _losses(
        self, output: Output, weights: Tensor, temperatures: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        parts = [self.task(output.scores, batch)]
        if not self.losses:
            return parts[0], parts[0][None]
        for number, loss in enumerate(self.losses):
            parts.append(self._robustness(number, loss, output, batch, temperatures[number]))
        parted = torch.stack(parts)
        weighted = weights[: len(self.losses)] * parted[1:]
        return parted[0] + weighted.sum(), parted

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


def step(
    lanes: Lanes,
    group: Group,
    batch: Batch,
    dropped: tuple[Bool[Tensor, "lane bag instance _"], ...],
    weights: Float[Tensor, "lane loss"],
    temperatures: Float[Tensor, "lane loss"],
) -> tuple[Float[Tensor, " lane"], Float[Tensor, "lane part"]]:
    """Compute the losses of a group of lanes: total, and task and robustness losses.

    Where the lanes have several kinds of losses, the model is one call all the same. A lane with
    fewer losses than another has zeros in the rest of its row.
    """
    inputs, size = (group.share(batch.bags), group.share(batch.mask), dropped), weights.shape[1] + 1
    if not group.runs:
        given = *inputs, weights, temperatures
        total, parts = lanes.call(group, *given, shared=(batch,), train=True)
        return total, nn.functional.pad(parts, (0, size - parts.shape[1]))
    answers = lanes.call(group, *inputs, shared=(), train=True, method="answer")
    seen = weights, temperatures, *answers
    found = lanes.call_runs(group, *seen, shared=(batch,), method="judge")
    wide = [nn.functional.pad(parts, (0, size - parts.shape[1])) for _, parts in found]
    return torch.cat([total for total, _ in found]), torch.cat(wide)


def factors(
    losses: Sequence[Sequence[Loss]], like: Tensor
) -> tuple[Float[Tensor, "lane loss"], Float[Tensor, "lane loss"]]:
    """Give the weights and temperatures of lanes' losses; zero where a lane has fewer.

    Args:
        losses: of each lane.
        like: has their type and device.
    """
    size = max(map(len, losses))
    pairs = [[(loss.weight, getattr(loss, "temperature", 1.0)) for loss in each] for each in losses]
    filled = [[*each, *[(0.0, 0.0)] * (size - len(each))] for each in pairs]
    found = like.new_tensor(filled).view(len(losses), size, 2)
    return found[..., 0].contiguous(), found[..., 1].contiguous()


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
