"""Mixup of bag embeddings: the classifier must be linear between bags."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from training import seeds
from training.losses.task import bag_losses


class Mixture(NamedTuple):
    """What to mix: partner of each bag, and the bag's own share."""

    partner: Int[Tensor, " bag"]
    share: float


def draw(key: tuple[int, ...], num_bags: int, alpha: float, device: torch.device) -> Mixture:
    """Draw from the batch's key alone: all lanes and all arms mix the same bags.

    Args:
        key: names the step: draw_seed, fold, epoch, step.
        num_bags: bags of the batch.
        alpha: both parameters of the beta distribution of the share.
        device: where the partners lie.
    """
    generator = seeds.generator(*key, "mixup")
    partner = torch.from_numpy(generator.permutation(num_bags)).to(device)
    return Mixture(partner, float(generator.beta(alpha, alpha)))


def mixup(
    bags: Float[Tensor, "bag embedding"],
    label: Int[Tensor, " bag"],
    weight: Float[Tensor, " bag"],
    *,
    classify: Callable[[Tensor], Tensor],
    mixture: Mixture,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Average the task loss of mixed bags against both labels.

    $\lambda\, l(s(\tilde z_i), y_i) + (1 - \lambda)\, l(s(\tilde z_i), y_j)$ with
    $\tilde z_i = \lambda z_i + (1 - \lambda) z_j$, averaged with the weights of the bags i.

    Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018, section 2; at a hidden layer as Verma et al.,
    ICML 2019 (manifold mixup), but at the bag embedding only, since bags have no common order of
    tiles. One lambda for a batch, partners from a permutation, as in the authors' code.

    Args:
        bags: bag embeddings z.
        label: class numbers y.
        weight: of the bags in the task loss.
        classify: from bag embeddings to scores s.
        mixture: partners j and lambda.
        smoothing: of the labels in l, see `bag_losses`.
    """
    partner, share = mixture
    scores = classify(share * bags + (1 - share) * bags[partner])
    own, others = (
        bag_losses(scores, each, smoothing=smoothing) for each in (label, label[partner])
    )
    return (weight * (share * own + (1 - share) * others)).sum() / weight.sum()
