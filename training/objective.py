"""What a lane minimises: the task loss plus weighted robustness losses.

The model and the losses' projections are one module, so that they are one lane's parameters.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.config import InfoNCE, Loss, ScoreLoss, TrialConfig
from training.data.loading import Batch
from training.losses.infonce import bag_infonce, tile_infonce
from training.losses.score import score_loss
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
    """

    def __init__(self, model: MILModel, losses: Sequence[Loss]) -> None:
        super().__init__()
        self.model = model
        self.losses = tuple(losses)
        self.projections = nn.ModuleDict(
            {
                str(number): nn.Linear(_width(model, loss), loss.projection_dim, bias=False)
                for number, loss in enumerate(losses)
                if isinstance(loss, InfoNCE) and loss.projection_dim
            }
        )

    def forward(
        self,
        bags: Bags,
        mask: Mask,
        dropped: tuple[Dropped, ...],
        weights: Float[Tensor, " loss"],
        temperatures: Float[Tensor, " loss"],
        batch: Batch | None,
    ) -> tuple[Tensor, ...]:
        """Compute (total, task and robustness losses); without a batch, the scores alone."""
        output = self.model(bags, mask, dropped)
        if batch is None:
            return (output.scores,)
        parts = [task_loss(output.scores, batch.label, batch.weight)]
        for number, loss in enumerate(self.losses):
            parts.append(self._robustness(number, loss, output, batch, temperatures[number]))
        parted = torch.stack(parts)
        return parted[0] + (weights * parted[1:]).sum(), parted

    def _robustness(
        self, number: int, loss: Loss, output: Output, batch: Batch, temperature: Tensor
    ) -> Float[Tensor, ""]:
        match loss:
            case ScoreLoss():
                first, second = output.scores[batch.first], output.scores[batch.second]
                return score_loss(first, second, form=loss.form)
            case InfoNCE(level="bag"):
                return bag_infonce(
                    self._project(number, output.bag[batch.first]),
                    self._project(number, output.bag[batch.second]),
                    temperature=temperature,
                    first_scanner=batch.first_scanner,
                    second_scanner=batch.second_scanner,
                    patient=batch.patient,
                    negatives=loss.negatives,
                )
            case InfoNCE():
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

    def _project(self, number: int, embeddings: Tensor) -> Tensor:
        if str(number) not in self.projections:
            return embeddings
        rows: Tensor = self.projections[str(number)](embeddings.flatten(0, -2))
        return rows.view(*embeddings.shape[:-1], -1)


def _width(model: MILModel, loss: InfoNCE) -> int:
    return model.bag_width if loss.level == "bag" else model.embedding.width


def initialise(config: TrialConfig, seed: int, *, in_dim: int, num_outputs: int) -> Objective:
    """Make a lane's model, initialised from the seed alone, whatever the precision.

    Args:
        config: of the trial.
        seed: of torch's generator, which is put back afterwards.
        in_dim: width of the encoder's embeddings.
        num_outputs: columns of the scores.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config.head, in_dim=in_dim, num_outputs=num_outputs)
        return Objective(model, config.losses).to(getattr(torch, config.precision))


def names(losses: Sequence[Loss]) -> list[str]:
    """Name the losses in the curves: their kind, numbered from the second of a kind."""
    kinds = [loss.kind for loss in losses]
    counts = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [
        kind if count == 1 else f"{kind}_{count}" for kind, count in zip(kinds, counts, strict=True)
    ]
