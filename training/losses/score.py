"""Distance between the scores of the two scans of a slide.

A reconstruction: arXiv 2602.22347 has a loss on scores, but its equations were not available. Six
readings of "score" are offered, S1 to S6. None has negatives, so none resists collapse: the logit
forms also shrink when all logits shrink. Runs under `torch.func.vmap` over lanes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def score_loss(
    first: Float[Tensor, "pair class"], second: Float[Tensor, "pair class"], *, form: str
) -> Float[Tensor, ""]:
    """Average a distance between the scores of two scans over pairs; zero without pairs.

    With s^a and s^b the scores of the two scans, c = s - mean over classes of s (c = s for one
    column, a binary task) and p = sigmoid(s) or softmax(s):

        logit_mse        S1  (c^a - c^b)^2
        probability_mse  S2  (p^a - p^b)^2
        variance         S3  mean over the two scans of (c - mean over the two of c)^2
        jensen_shannon   S4  Jensen-Shannon divergence of the class distributions, nats
        huber            S5  Huber's loss of c^a - c^b with its bend at 1

    all but S4 averaged over classes. Class logits are defined up to a constant, hence c. For two
    scans S3 is a quarter of S1; S4 is at most ln 2.

    Args:
        first: logits of one scan of each pair.
        second: logits of the other scan, in the same order.
        form: S1 to S5 by name.

    Raises:
        ValueError: The form does not exist.
    """
    match form:
        case "logit_mse":
            distance = (_centred(first) - _centred(second)).square().mean(-1)
        case "probability_mse":
            distance = (_probability(first) - _probability(second)).square().mean(-1)
        case "variance":
            scans = torch.stack([_centred(first), _centred(second)])
            distance = (scans - scans.mean(0)).square().mean(0).mean(-1)
        case "jensen_shannon":
            distance = _jensen_shannon(_log_probability(first), _log_probability(second))
        case "huber":
            distance = F.huber_loss(_centred(first), _centred(second), reduction="none").mean(-1)
        case _:
            raise ValueError(f"form is {form!r}, not one of S1 to S5 by name")
    return distance.sum() / max(first.shape[0], 1)


def attention_loss(
    first: Float[Tensor, "pair tile"],
    second: Float[Tensor, "pair tile"],
    *,
    matched: Bool[Tensor, "pair tile"],
) -> Float[Tensor, ""]:
    """Average over pairs the Jensen-Shannon divergence of their attention, nats; form S6.

    The attention of each scan is scaled to sum to one over the places that both scans have; a pair
    without shared places gives zero.

    Args:
        first: attention of one scan of each pair, not negative.
        second: attention of the other scan; tile t is the place of tile t of `first`.
        matched: True where both scans have the place; the rest is ignored.
    """
    tiny = torch.finfo(first.dtype).tiny
    shares = []
    for attention in (first, second):
        kept = attention.masked_fill(~matched, 0.0)
        shares.append((kept / kept.sum(-1, keepdim=True).clamp_min(tiny)).clamp_min(tiny))
    p, q = shares
    log_m = ((p + q) / 2).log()
    divergence = (p * (p.log() - log_m) + q * (q.log() - log_m)) * matched
    return divergence.sum() / 2 / max(first.shape[0], 1)


def _centred(scores: Float[Tensor, "pair class"]) -> Float[Tensor, "pair class"]:
    if scores.shape[-1] == 1:
        return scores
    return scores - scores.mean(-1, keepdim=True)


def _probability(scores: Float[Tensor, "pair class"]) -> Float[Tensor, "pair class"]:
    # Not torch.sigmoid, nor logaddexp below: see `training.lanes` on bit-identical lanes.
    return F.logsigmoid(scores).exp() if scores.shape[-1] == 1 else torch.softmax(scores, dim=-1)


def _log_probability(scores: Float[Tensor, "pair class"]) -> Float[Tensor, "pair outcome"]:
    if scores.shape[-1] == 1:
        return torch.cat([F.logsigmoid(scores), F.logsigmoid(-scores)], dim=-1)
    return torch.log_softmax(scores, dim=-1)


def _jensen_shannon(
    log_p: Float[Tensor, "pair outcome"], log_q: Float[Tensor, "pair outcome"]
) -> Float[Tensor, " pair"]:
    # In logarithms: a probability that underflows to zero meets a finite logarithm, not -inf.
    log_m = torch.logsumexp(torch.stack([log_p, log_q], dim=-1), dim=-1) - math.log(2)
    divergence = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return divergence.sum(-1) / 2
