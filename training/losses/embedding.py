"""Distance between the embeddings of the two scans of a slide, bag or tile.

The plainest rival of a contrastive loss. It has no negatives, so nothing resists collapse: the mean
squared form also shrinks when all embeddings shrink. Runs under `torch.func.vmap` over lanes.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from training.losses.infonce import unit


def embedding_loss(
    first: Float[Tensor, "row embedding"],
    second: Float[Tensor, "row embedding"],
    *,
    real: Bool[Tensor, " row"],
    form: str,
) -> Float[Tensor, ""]:
    """Average a distance between two embeddings over rows; zero without rows.

        mse      mean over units of (z^a - z^b)^2
        cosine   1 - z^a . z^b / (||z^a|| ||z^b||)

    A zero embedding has cosine zero to everything.

    Args:
        first: embeddings of one scan of each pair, or of its tiles.
        second: those of the other scan, in the same order.
        real: rows that count; the rest may hold anything.
        form: mse or cosine.

    Raises:
        ValueError: The form does not exist.
    """
    a, b = (z.masked_fill(~real[:, None], 0.0) for z in (first, second))
    match form:
        case "mse":
            distance = (a - b).square().mean(-1)
        case "cosine":
            distance = 1 - (unit(a) * unit(b)).sum(-1)
        case _:
            raise ValueError(f"form is {form!r}, not mse or cosine")
    return (distance * real).sum() / real.sum().clamp_min(1)
