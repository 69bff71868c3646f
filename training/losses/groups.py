"""Who is in which group, and discrepancies between the groups' bag embeddings.

A group is a value of a column of the index (scanner, site, lab or stain); a bag without one has
number -1 and takes no part. Which groups a batch has is chance, so every function counts those
present and gives zero where there are fewer than two. All run under `torch.func.vmap` over lanes:
shapes depend on the number of groups alone, no branch on a value.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Members = Float[Tensor, "group bag"]
"""One row per group: one over its bags at these, zero elsewhere."""

BANDWIDTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
"""Factors of the squared distance in the kernels, as in DomainBed."""


def members(
    group: Int[Tensor, " bag"], num_groups: int, *, like: Float[Tensor, "bag *rest"]
) -> Members:
    """List the bags of each group, as shares.

    Args:
        group: group number of each bag; -1: none.
        num_groups: how many groups there are.
        like: gives type and, under `vmap`, the lane axis: a shared factor would be folded into one
            product over all lanes, whose shape depends on their number (see `training.lanes`).
    """
    numbers = torch.arange(num_groups, device=group.device)
    inside = (group[None, :] == numbers[:, None]).to(like.dtype)
    shares = inside / inside.sum(1, keepdim=True).clamp_min(1)
    return torch.zeros_like(like).sum() + shares


def coral(
    bags: Float[Tensor, "bag embedding"],
    group: Int[Tensor, " bag"],
    *,
    num_groups: int,
    means: bool,
) -> Float[Tensor, ""]:
    r"""Compare the covariances of groups, and if asked their means.

    Average over pairs of groups of $\|C_a - C_b\|_F^2 / d^2 + \|\mu_a - \mu_b\|^2 / d$.

    Sun and Saenko, ECCV workshops 2016 (Deep CORAL), equation 1, with the mean term and without the
    factor 1/4 as in DomainBed (Gulrajani and Lopez-Paz, ICLR 2021), for whose scale the weights are
    known. Departure: a group with one bag has no covariance; it takes part in the means alone.

    Args:
        bags: bag embeddings z, of width d.
        group: group number of each bag; -1: none.
        num_groups: how many groups there are.
        means: add the second term.
    """
    share = members(group, num_groups, like=bags)
    inside = share > 0
    count = inside.sum(1).to(bags.dtype)
    mean = share @ bags
    own = inside.to(bags.dtype).T @ mean
    centred = (bags - own).masked_fill(~inside.any(0)[:, None], 0.0)
    # <C_a, C_b> = sum over bags i of a and j of b of (z_i . z_j)^2 / ((n_a - 1) (n_b - 1))
    unbiased = share * (count / (count - 1).clamp_min(1))[:, None]
    inner = unbiased @ (centred @ centred.T).square() @ unbiased.T
    loss = _mean_over_pairs(inner, count > 1) / bags.shape[1] ** 2
    if means:
        centre = mean - bags.mean(0)
        loss = loss + _mean_over_pairs(centre @ centre.T, count > 0) / bags.shape[1]
    return loss


def mmd(
    bags: Float[Tensor, "bag embedding"], group: Int[Tensor, " bag"], *, num_groups: int
) -> Float[Tensor, ""]:
    r"""Compute the squared maximum mean discrepancy of groups with a sum of Gaussian kernels.

    Average over pairs of groups of $\bar k_{aa} + \bar k_{bb} - 2 \bar k_{ab}$ with
    $k(x, y) = \sum_\gamma \exp(-\gamma \|x - y\|^2)$ and $\bar k$ the mean over bags.

    Gretton, Borgwardt, Rasch, Schölkopf and Smola, JMLR 2012, equation 5 (biased estimate); the
    kernels are those of DomainBed.

    Args:
        bags: bag embeddings.
        group: group number of each bag; -1: none.
        num_groups: how many groups there are.
    """
    share = members(group, num_groups, like=bags)
    return _mean_over_pairs(share @ _kernel(bags) @ share.T, (share > 0).any(1))


def lmmd(
    bags: Float[Tensor, "bag embedding"],
    group: Int[Tensor, " bag"],
    label: Int[Tensor, " bag"],
    *,
    num_groups: int,
    num_classes: int,
) -> Float[Tensor, ""]:
    """Average the discrepancy of `mmd` over classes and the pairs of groups that both have one.

    Zhu, Zhuang, Wang et al., IEEE Transactions on Neural Networks and Learning Systems 2021 (deep
    subdomain adaptation, local maximum mean discrepancy). Departures: all groups have labels here,
    so that the classes' weights are hard and there are no pseudo-labels; DomainBed's kernels.

    Args:
        bags: bag embeddings.
        group: group number of each bag; -1: none.
        label: class number of each bag.
        num_groups: how many groups there are.
        num_classes: how many classes there are.
    """
    cell = torch.where(group < 0, -1, label * num_groups + group)
    share = members(cell, num_groups * num_classes, like=bags)
    kind = torch.arange(num_classes, device=group.device).repeat_interleave(num_groups)
    comparable = kind[:, None] == kind[None, :]
    return _mean_over_pairs(share @ _kernel(bags) @ share.T, (share > 0).any(1), comparable)


def _kernel(bags: Float[Tensor, "bag embedding"]) -> Float[Tensor, "bag bag"]:
    """Sum the kernels of all bandwidths."""
    centred = bags - bags.mean(0)  # less cancellation below; distances stay
    norm = centred.square().sum(1)
    square = norm[:, None] + norm[None, :] - 2 * (centred @ centred.T)
    square = square.clamp_min(0).masked_fill(
        torch.eye(len(bags), dtype=torch.bool, device=bags.device), 0.0
    )
    return torch.stack([(-gamma * square).exp() for gamma in BANDWIDTHS]).sum(0)


def _mean_over_pairs(
    inner: Float[Tensor, "group group"],
    present: Bool[Tensor, " group"],
    comparable: Bool[Tensor, "group group"] | None = None,
) -> Float[Tensor, ""]:
    """Average ||a - b||^2 over pairs of groups, from their inner products; zero without pairs."""
    own = (inner * torch.eye(len(inner), dtype=inner.dtype, device=inner.device)).sum(1)
    square = own[:, None] + own[None, :] - inner - inner.T
    counts = (present[:, None] & present[None, :]).triu(1)
    if comparable is not None:
        counts = counts & comparable
    return (square * counts).sum() / counts.sum().clamp_min(1)
