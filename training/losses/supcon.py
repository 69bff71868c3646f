"""Supervised contrastive loss between the bags of a batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from training.losses.infonce import Temperature, unit


def supcon(
    bags: Float[Tensor, "bag embedding"],
    label: Int[Tensor, " bag"],
    group: Int[Tensor, " bag"],
    *,
    temperature: Temperature,
    positives: str,
) -> Float[Tensor, ""]:
    r"""Attract bags of a class, repel those of other classes.

    Mean over anchors i with positives of
    $-\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{\exp(q_i \cdot q_p / \tau)}
    {\sum_{a \in A(i)} \exp(q_i \cdot q_a / \tau)}$ with q the unit embeddings.

    Khosla, Teterwak, Wang et al., NeurIPS 2020, equation 2. A(i) is every other bag and P(i) those
    of the anchor's class (positives `class`). With `other_group`, P(i) keeps those of another known
    group, and bags of the anchor's class that are no positives leave A(i) too: they are neither
    attracted nor repelled. Departure: the mean is over anchors with positives.

    Args:
        bags: bag embeddings; scaled to unit length here.
        label: class number of each bag.
        group: group number of each bag; -1: none.
        temperature: tau.
        positives: class or other_group.

    Raises:
        ValueError: The rule does not exist.
    """
    other = ~torch.eye(len(bags), dtype=torch.bool, device=bags.device)
    same = other & (label[:, None] == label[None, :])
    match positives:
        case "class":
            positive = same
        case "other_group":
            known = group >= 0
            differs = (group[:, None] != group[None, :]) & known[:, None] & known[None, :]
            positive = same & differs
        case _:
            raise ValueError(f"positives is {positives!r}, not class or other_group")
    q = unit(bags)
    likeness = q @ q.T / temperature
    has = positive.any(1)
    # An anchor without positives keeps itself alone, so that no row is empty; it does not count.
    kept = positive | (other & ~same) | ~(other | has[:, None])
    pool = likeness.masked_fill(~kept, -torch.inf)
    log_share = likeness - torch.logsumexp(pool, dim=1, keepdim=True)
    count = positive.sum(1).clamp_min(1)
    each = log_share.masked_fill(~positive, 0.0).sum(1) / count
    return -each.sum() / has.sum().clamp_min(1)
