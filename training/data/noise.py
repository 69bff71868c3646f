"""Gaussian noise on the embeddings of a batch, a generic regulariser, in training only.

Like MixStyle it stands between the loader and the lanes: one draw for all lanes of a pack.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from training import seeds
from training.data.loading import Batch, Loader
from training.data.sampling import Rows


def spread(loader: Loader, rows: Rows) -> Float[Tensor, " feature"]:
    """Compute the SD of each feature over all tiles of these scans, in float64.

    One scan after the other is read, and means and squares are merged as in Chan, Golub and
    LeVeque, 1979: memory for one bag, and the same bits each time.

    Args:
        loader: reads bags, as the model gets them.
        rows: the training scans on seen scanners.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for row in rows:
        bags, mask = loader.whole(np.array([row]))
        tiles = bags[mask].cpu().numpy().astype(np.float64)
        own = tiles.mean(0)
        total = count + len(tiles)
        apart = own - mean
        mean = mean + apart * (len(tiles) / total)
        squares = squares + np.square(tiles - own).sum(0)
        squares = squares + np.square(apart) * (count * len(tiles) / total)
        count = total
    return torch.from_numpy(np.sqrt(squares / count))


def add_noise(batch: Batch, sd: Float[Tensor, " feature"] | None) -> Batch:
    """Add Gaussian noise to every real tile.

    Drawn from the batch's key alone, for the routine bags and for the pairs' bags on their own:
    all lanes, and all arms with these settings, add the same noise to the same routine bags.

    Args:
        batch: its padding stays zero.
        sd: of the noise, by feature; None: no noise.
    """
    if sd is None:
        return batch
    bags = batch.bags.clone()
    sd = sd.to(bags)
    routine, paired = slice(batch.num_routine), slice(batch.num_routine, None)
    for part, name in ((routine, "noise"), (paired, "noise of pairs")):
        mask = batch.mask[part]
        seed = seeds.derive(*batch.key, name)
        generator = torch.Generator(bags.device).manual_seed(seed)
        drawn = torch.randn(
            (int(mask.sum()), len(sd)), generator=generator, device=bags.device, dtype=bags.dtype
        )
        bags[part][mask] += sd * drawn
    return replace(batch, bags=bags)
