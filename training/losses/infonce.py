"""InfoNCE between the scans of a slide, for bag and for tile embeddings.

A reconstruction: arXiv 2602.22347 names an InfoNCE loss between embeddings of scans, but its
equations were not available. The form is that of contrastive predictive coding (CPC; van den Oord,
Li and Vinyals, 2018, arXiv 1807.03748, equation 4), made symmetric. With unit embeddings q, anchor
q_i^a, positive q_i^b and temperature tau, one direction is

    l_i = -log( e(q_i^a . q_i^b) / (e(q_i^a . q_i^b) + sum_n e(q_i^a . q_n)) ),  e(x) = exp(x / tau)

and the loss is the mean of l over all anchors and both directions. The rule names the negatives n:

    other_scanner   the positive's side, scans of the positive's scanner: the scanner tells nothing
    anchor_scanner  the anchor's side, scans of the anchor's scanner: looking at the scanner hurts
    mixed           both sides, every scanner: leaves the scanner as a shortcut, for comparison

A side is an argument, `first` or `second`: with three scanners or more, the order of the scans
inside a pair decides which negatives exist. An anchor without negatives contributes zero. A zero
embedding has similarity zero to everything. Runs under `torch.func.vmap` over lanes: no branch
depends on a value.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Temperature = Float[Tensor, ""] | float
"""Softmax temperature tau, positive; a tensor so that lanes can differ in it."""


def bag_infonce(
    first: Float[Tensor, "pair embedding"],
    second: Float[Tensor, "pair embedding"],
    *,
    temperature: Temperature,
    first_scanner: Int[Tensor, " pair"],
    second_scanner: Int[Tensor, " pair"],
    patient: Int[Tensor, " pair"],
    second_patient: Int[Tensor, " pair"] | None = None,
    negatives: str,
) -> Float[Tensor, ""]:
    """Tell a slide's other scan from the scans of other patients, by bag embedding.

    Slides of the anchor's own patient are never negatives, nor are those of the positive's patient
    where that is another one (shuffled pairs).

    Args:
        first: embeddings of one scan of each pair; scaled to unit length here.
        second: embeddings of the other scan, in the same order.
        temperature: tau.
        first_scanner: scanner numbers of `first`.
        second_scanner: scanner numbers of `second`.
        patient: patient numbers of `first`.
        second_patient: those of `second`; None: the same.
        negatives: the rule, see the module.

    Raises:
        ValueError: The rule does not exist.
    """
    others = patient if second_patient is None else second_patient
    a = Side(unit(first), first_scanner, _others(patient, patient, others))
    b = Side(unit(second), second_scanner, _others(others, patient, others))
    there = _direction(a, b, temperature, negatives)
    back = _direction(b, a, temperature, negatives)
    return (there.sum() + back.sum()) / max(2 * first.shape[0], 1)


def tile_infonce(
    first: Float[Tensor, "pair tile embedding"],
    second: Float[Tensor, "pair tile embedding"],
    *,
    matched: Bool[Tensor, "pair tile"],
    temperature: Temperature,
    first_scanner: Int[Tensor, " pair"],
    second_scanner: Int[Tensor, " pair"],
    patient: Int[Tensor, " pair"],
    second_patient: Int[Tensor, " pair"] | None = None,
    negatives: str,
) -> Float[Tensor, ""]:
    """Tell a tissue place on the slide's other scan from other places, by tile embedding.

    Negatives are other matched tiles of the same pair and of other patients, under the rule; other
    slides of the patients of the pair are left out. Memory grows with (pairs × tiles) squared.

    Args:
        first: tile embeddings of one scan of each pair; scaled to unit length here.
        second: tile embeddings of the other scan; tile t is the place of tile t of `first`.
        matched: True where both scans have the place; the rest is ignored.
        temperature: tau.
        first_scanner: scanner numbers of `first`.
        second_scanner: scanner numbers of `second`.
        patient: patient numbers of `first`.
        second_patient: those of `second`; None: the same.
        negatives: the rule, see the module.

    Raises:
        ValueError: The rule does not exist.
    """
    num_pairs, num_tiles = matched.shape
    pair = torch.arange(num_pairs, device=first.device).repeat_interleave(num_tiles)
    tile = torch.arange(num_pairs * num_tiles, device=first.device)
    flat = matched.reshape(-1)
    other_place = tile[:, None] != tile[None, :]
    same_pair = pair[:, None] == pair[None, :]
    of_first = patient[pair]
    of_second = of_first if second_patient is None else second_patient[pair]
    own, other = (
        flat[None, :] & ((same_pair & other_place) | _others(of_side, of_first, of_second))
        for of_side in (of_first, of_second)
    )
    # Ignored tiles become zero before they are scaled: they may hold anything, NaN included.
    q, k = (unit(h.masked_fill(~matched[..., None], 0.0)).flatten(0, 1) for h in (first, second))
    a, b = Side(q, first_scanner[pair], own), Side(k, second_scanner[pair], other)
    there = _direction(a, b, temperature, negatives)
    back = _direction(b, a, temperature, negatives)
    return torch.where(flat, there + back, 0.0).sum() / (2 * flat.sum()).clamp_min(1)


def unit(embeddings: Float[Tensor, "*batch embedding"]) -> Float[Tensor, "*batch embedding"]:
    """Scale to unit length; a zero vector stays zero, with zero gradient."""
    # The largest entry is divided out first, so that squares neither overflow nor underflow.
    largest = embeddings.detach().abs().amax(-1, keepdim=True)
    zero = largest == 0
    scaled = torch.where(zero, 0.0, embeddings / largest.masked_fill(zero, 1.0))
    squares = scaled.square().sum(-1, keepdim=True)
    return scaled * squares.masked_fill(zero, 1.0).rsqrt()


class Side(NamedTuple):
    """One side of the pairs: embeddings, scanners, and which may be negatives of which anchor."""

    embedding: Float[Tensor, "anchor embedding"]
    scanner: Int[Tensor, " anchor"]
    allowed: Bool[Tensor, "anchor anchor"]


def _others(
    candidate: Int[Tensor, " anchor"],
    first: Int[Tensor, " anchor"],
    second: Int[Tensor, " anchor"],
) -> Bool[Tensor, "anchor anchor"]:
    """Say which candidates are of neither patient of each pair."""
    return (candidate[None, :] != first[:, None]) & (candidate[None, :] != second[:, None])


def _direction(
    anchor: Side, positive: Side, temperature: Temperature, negatives: str
) -> Float[Tensor, " anchor"]:
    """Compute -log of the positive's share for each anchor."""
    match negatives:
        case "other_scanner":
            pool = [(positive, _alike(positive))]
        case "anchor_scanner":
            pool = [(anchor, _alike(anchor))]
        case "mixed":
            pool = [(anchor, anchor.allowed), (positive, positive.allowed)]
        case _:
            raise ValueError(
                f"negatives is {negatives!r}, not other_scanner, anchor_scanner or mixed"
            )
    q, k = anchor.embedding, positive.embedding
    own = (q * k).sum(-1, keepdim=True) / temperature
    others = [
        (q @ side.embedding.T / temperature).masked_fill(~keep, -torch.inf) for side, keep in pool
    ]
    return torch.logsumexp(torch.cat([own, *others], dim=-1), dim=-1) - own[:, 0]


def _alike(side: Side) -> Bool[Tensor, "anchor anchor"]:
    """Keep the candidates on the scanner that the pair has on this side."""
    return side.allowed & (side.scanner[:, None] == side.scanner[None, :])
