"""MixStyle: exchanges the style of bags before the model sees them, in training only.

This is neither a loss nor a part of the model: it changes the bags of a batch, once for all lanes
of a pack, so it stands between the loader and the lanes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from training import seeds
from training.config import MixStyle
from training.data.loading import Batch
from training.types import Bags, Mask

_EPS = 1e-6


def mix_style(batch: Batch, settings: MixStyle) -> Batch:
    """Mix the tile statistics of a batch's bags, in the drawn share of steps.

    Drawn from the batch's key alone, so that all lanes and all arms with these settings mix the
    same bags. Bags of a pair are mixed like any others.
    """
    if not settings.probability:
        return batch
    generator = seeds.generator(*batch.key, "mixstyle")
    if generator.random() >= settings.probability:
        return batch
    num_bags = len(batch.label)
    partner = torch.from_numpy(generator.permutation(num_bags)).to(batch.bags.device)
    shares = torch.from_numpy(generator.beta(settings.alpha, settings.alpha, num_bags))
    mixed = mixed_style(batch.bags, batch.mask, partner, shares.to(batch.bags))
    return replace(batch, bags=mixed)


def mixed_style(bags: Bags, mask: Mask, partner: Tensor, shares: Tensor) -> Bags:
    r"""Give each bag mixed statistics of its tiles.

    $\tilde x = (\lambda \sigma_i + (1 - \lambda) \sigma_j) (x - \mu_i) / \sigma_i
    + \lambda \mu_i + (1 - \lambda) \mu_j$, with mean and SD of each feature over the bag's real
    tiles and a lambda per bag.

    Zhou, Yang, Qiao and Xiang, ICLR 2021, equations 1 to 6, with $\sqrt{\sigma^2 + 10^{-6}}$ as in
    the authors' code. Departures: instances are tiles, not places of a feature map; the encoder's
    embeddings are mixed, not hidden layers; partners come from any scanner.

    Args:
        bags: embeddings x.
        mask: True where an instance is real; padding stays zero.
        partner: bag j for each bag i.
        shares: lambda of each bag.
    """
    real = mask[..., None]
    count = real.sum(1, keepdim=True)
    mean = bags.masked_fill(~real, 0.0).sum(1, keepdim=True) / count
    centred = (bags - mean).masked_fill(~real, 0.0)
    spread = (centred.square().sum(1, keepdim=True) / count + _EPS).sqrt()
    own, other = shares[:, None, None], 1 - shares[:, None, None]
    scale = own * spread + other * spread[partner]
    shift = own * mean + other * mean[partner]
    return (centred / spread * scale + shift).masked_fill(~real, 0.0)
