r"""Losses of a survival task: Cox's partial likelihood and a discrete-time likelihood.

**The unit is the patient.** Bags of a batch are scans, and a patient may have several there: of
several slides, or of one slide on several scanners. They share weight 1,
$\sum_{i \in p} v_i = 1$, wherever patients are counted: in the mean, among events, in risk sets. So
a patient who was scanned twice is neither two events nor two competitors.

**Small risk sets bias the partial likelihood.** With events $E$ of a batch and risk sets $R$ inside
it, the loss of an epoch is not the cohort's: the fewer patients a batch has, the less a high risk
is held against those who lived on, and a batch without an event teaches nothing. The number of
patients is `sampling.slides_per_batch` (and the pairs); with few events, or small strata, take a
large one, or `risk_set: cohort` (`training.losses.cohort`), or the discrete-time likelihood, which
is a mean over patients and has no such bias.

Runs under `torch.func.vmap` over lanes: no branch depends on a value.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.config_losses import PROBABILITIES
from training.config_task import Survival
from training.data.loading import Batch
from training.data.survival import BagOutcomes
from training.losses.task import BagLosses
from training.types import Scores

FAR = -1e30
"""Logarithm of next to nothing. Not -inf, whose gradient is NaN where a sum has nothing else."""


class AtRisk(NamedTuple):
    """Logarithms of the hazards at risk with an event, a row each.

    Attributes:
        rest: those without an event at that time.
        tied: those with one, the row's own patient among them.
        number: patients with one.
    """

    rest: Float[Tensor, " row"]
    tied: Float[Tensor, " row"]
    number: Float[Tensor, " row"]

    def totals(self, ties: int) -> tuple[Float[Tensor, "row tie"], Float[Tensor, "row tie"]]:
        """Give log(rest + (1 - l / number) tied) for l = 0 to ties - 1, and the share of each l.

        The shares are equal for l < number; with `ties` 1 this is Breslow's rule, else Efron's.
        """
        place = torch.arange(ties, device=self.rest.device)
        used = place < self.number[:, None]
        left = torch.where(used, 1 - place / self.number[:, None].clamp_min(1), 1.0)
        parts = torch.stack(
            [self.rest[:, None].expand_as(left), self.tied[:, None] + left.log()], dim=-1
        )
        used = used.to(left.dtype)
        return torch.logsumexp(parts, dim=-1), used / used.sum(1, keepdim=True).clamp_min(1)

    def joined(self, others: "AtRisk") -> "AtRisk":
        """Add those at risk elsewhere with the same events."""
        return AtRisk(
            torch.logsumexp(torch.stack([self.rest, others.rest]), dim=0),
            torch.logsumexp(torch.stack([self.tied, others.tied]), dim=0),
            self.number + others.number,
        )

    def of(self, rows: Int[Tensor, " row"]) -> "AtRisk":
        """Choose rows."""
        return AtRisk(*(each[rows] for each in self))


def cox(scores: Scores, outcomes: BagOutcomes, *, ties: str) -> BagLosses:
    r"""Compute the terms of Cox's negative partial log-likelihood, risk sets inside the batch.

    For each bag i whose patient has the event at time $t_i$ in its stratum

    $l_i = -s_i + \frac{1}{d} \sum_{l=0}^{d-1} \log\big( H_i - \frac{l}{d} D_i \big)$

    with $d$ the patients with an event at $t_i$, $H_i = e^{s_i} + \sum_{j \in R} v_j e^{s_j}$ and
    $D_i = e^{s_i} + \sum_{j \in T} v_j e^{s_j}$, where R are the bags of other patients of the
    stratum with $t_j \ge t_i$, T those among them with an event at $t_i$. Their mean,
    $\sum_i v_i l_i / \sum_i v_i$ over the bags with an event, is the loss; 0 without one.

    Cox, JRSS B 1972; ties as Efron, JASA 1977, or as Breslow, 1974 ($l = 0$ throughout). With a bag
    per patient this is their likelihood. Other bags of the patient are not in its own risk set: as
    competitors they would punish differences between a patient's scans, a robustness loss by the
    back door. A censored patient is at risk at its own time. Small batches bias it, see the module.

    Args:
        scores: log-risks s.
        outcomes: of the bags.
        ties: efron or breslow.

    Returns:
        l and v, both 0 for a bag without an event.
    """
    totals, share = at_risk(scores[:, 0], outcomes).totals(_num(outcomes, ties))
    each = (totals * share).sum(1) - scores[:, 0]
    return BagLosses(each.masked_fill(~outcomes.event, 0.0), outcomes.weight * outcomes.event)


def cox_slopes(scores: Scores, outcomes: BagOutcomes, *, ties: str) -> Float[Tensor, " bag"]:
    """Compute the derivative of each term of `cox` in a common factor of all scores, at 1."""
    risk, at = scores[:, 0], at_risk(scores[:, 0], outcomes)
    totals, share = at.totals(_num(outcomes, ties))
    hazards = risk + log_shares(outcomes)
    rest, tied = (
        (torch.softmax(hazards.masked_fill(~mask, FAR), dim=1) * risk).sum(1, keepdim=True)
        for mask in masks(outcomes)
    )
    part = (at.rest[:, None] - totals).exp()  # of a total that the rest has
    slopes = ((part * rest + (1 - part) * tied) * share).sum(1) - risk
    return slopes.masked_fill(~outcomes.event, 0.0)


def _num(outcomes: BagOutcomes, ties: str) -> int:
    return outcomes.ties if ties == "efron" else 1


def at_risk(risk: Float[Tensor, " bag"], outcomes: BagOutcomes) -> AtRisk:
    """Sum up who of the batch is at risk with the event of each bag."""
    rest, tied = masks(outcomes)
    hazards = risk + log_shares(outcomes)
    others = outcomes.patient[:, None] != outcomes.patient
    count = 1 + (tied & others).to(risk.dtype) @ outcomes.weight
    return AtRisk(
        torch.logsumexp(hazards.masked_fill(~rest, FAR), dim=1),
        torch.logsumexp(hazards.masked_fill(~tied, FAR), dim=1),
        count.round(),
    )


def masks(outcomes: BagOutcomes) -> tuple[Bool[Tensor, "bag bag"], Bool[Tensor, "bag bag"]]:
    """Say which bags are at risk with the event of each bag: the rest, and the tied."""
    rank, stratum, patient = outcomes.rank, outcomes.stratum, outcomes.patient
    itself = torch.eye(len(rank), dtype=torch.bool, device=rank.device)
    among = (stratum[:, None] == stratum) & ((patient[:, None] != patient) | itself)
    tied = among & (rank[:, None] == rank) & outcomes.event[:, None] & outcomes.event
    return among & (rank[:, None] <= rank) & ~tied, tied


def log_shares(outcomes: BagOutcomes) -> Float[Tensor, "bag bag"]:
    """Give the logarithm of each bag's share in its patient; 0 where a bag stands for itself."""
    itself = torch.eye(len(outcomes.rank), dtype=torch.bool, device=outcomes.rank.device)
    return outcomes.weight.log().expand(len(itself), -1).masked_fill(itself, 0.0)


def discrete(scores: Scores, outcomes: BagOutcomes) -> BagLosses:
    r"""Compute the negative log-likelihood of hazards of intervals, $h_k = \sigma(a_k)$.

    $l_i = -\sum_{k < K_i} \log(1 - h_{ik}) - e_i \log h_{i K_i}$, for a patient who survived $K_i$
    intervals and had the event in the next one ($e_i = 1$) or not. Their mean,
    $\sum_i v_i l_i / \sum_i v_i$, is one over patients, censored ones too.

    Gensheimer and Narasimhan, PeerJ 2019; who was censored is credited with an interval
    whose middle was reached, as there. Departures: intervals are closed at their end, so that those
    cut at training events hold equally many; the biases of the last layer start at the hazards of
    the training part, which small learning rates take long to reach.

    Args:
        scores: logits a, a column per interval.
        outcomes: of the bags.
    """
    lived, died = _cells(scores, outcomes)
    each = -(F.logsigmoid(-scores) * lived).sum(1) - (F.logsigmoid(scores) * died).sum(1)
    return BagLosses(each, outcomes.weight)


def discrete_slopes(scores: Scores, outcomes: BagOutcomes) -> Float[Tensor, " bag"]:
    """Compute the derivative of each term of `discrete` in a common factor of all logits, at 1."""
    lived, died = _cells(scores, outcomes)
    hazard = F.logsigmoid(scores).exp()  # not torch.sigmoid, see `training.lanes`
    return (scores * (hazard * lived - (1 - hazard) * died)).sum(1)


def _cells(
    scores: Scores, outcomes: BagOutcomes
) -> tuple[Bool[Tensor, "bag interval"], Bool[Tensor, "bag interval"]]:
    """Say in which intervals each patient lived on, and in which one had the event."""
    interval = torch.arange(scores.shape[1], device=scores.device)
    reached = outcomes.survived[:, None]
    return interval < reached, (interval == reached) & outcomes.died[:, None]


def compared(scores: Scores, form: str) -> Float[Tensor, "bag column"]:
    """Give what a loss between the scores of two scans compares where they are hazards' logits.

    The risk; for forms on probabilities the logarithms of the chances of an event in each interval
    and of none, which are the logits of a softmax.
    """
    return outcome_logits(scores) if form in PROBABILITIES else interval_risk(scores)


def interval_risk(scores: Scores) -> Float[Tensor, "bag 1"]:
    r"""Compute a risk from logits of intervals: minus the expected number of intervals survived.

    $r = -\sum_k S_k$, $S_k = \prod_{m \le k} (1 - h_m)$: between minus the number of intervals and
    0, higher for an earlier event. Intervals have about equally many events, so that this is a
    restricted mean on a clock that runs with the events.
    """
    survival = F.logsigmoid(-scores).cumsum(1).exp()
    return -survival.sum(1, keepdim=True)


def outcome_logits(scores: Scores) -> Float[Tensor, "bag outcome"]:
    """Compute the log-probability of an event in each interval, then of none."""
    lived = F.logsigmoid(-scores).cumsum(1)
    before = torch.cat([torch.zeros_like(lived[:, :1]), lived[:, :-1]], dim=1)
    return torch.cat([before + F.logsigmoid(scores), lived[:, -1:]], dim=1)


class Cox(nn.Module):
    """`cox` on the batches of a trial."""

    def __init__(self, ties: str) -> None:
        super().__init__()
        self.ties = ties

    def forward(self, scores: Scores, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean over events."""
        return self.bags(scores, batch).mean()

    def bags(self, scores: Scores, batch: Batch) -> BagLosses:
        """Compute the terms of the bags."""
        return cox(scores, _known(batch), ties=self.ties)

    def slopes(self, scores: Scores, batch: Batch) -> Float[Tensor, " bag"]:
        """Compute the derivative of each term in a common factor of all scores, at 1."""
        return cox_slopes(scores, _known(batch), ties=self.ties)


class Discrete(nn.Module):
    """`discrete` on the batches of a trial."""

    def forward(self, scores: Scores, batch: Batch) -> Float[Tensor, ""]:
        """Compute the mean over patients."""
        return self.bags(scores, batch).mean()

    def bags(self, scores: Scores, batch: Batch) -> BagLosses:
        """Compute the terms of the bags."""
        return discrete(scores, _known(batch))

    def slopes(self, scores: Scores, batch: Batch) -> Float[Tensor, " bag"]:
        """Compute the derivative of each term in a common factor of all logits, at 1."""
        return discrete_slopes(scores, _known(batch))


def _known(batch: Batch) -> BagOutcomes:
    assert batch.outcomes is not None, "a batch of a survival task"
    return batch.outcomes


def mean_loss(scores: Scores, outcomes: BagOutcomes, settings: Survival) -> Float[Tensor, ""]:
    """Compute the task loss with these bags as the only risk set, whatever the configuration."""
    if settings.loss == "discrete":
        return discrete(scores, outcomes).mean()
    return cox(scores, outcomes, ties=settings.ties).mean()
