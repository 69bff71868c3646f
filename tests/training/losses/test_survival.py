import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.linear_model.coxph import CoxPHOptimizer

from tests.training.losses import lives
from tests.training.losses.lives import Lives
from training.data import survival
from training.losses.survival import (
    compared,
    cox,
    cox_slopes,
    discrete,
    discrete_slopes,
    interval_risk,
    mean_loss,
    outcome_logits,
)

with warnings.catch_warnings():  # it still uses torch.jit.script
    warnings.simplefilter("ignore", FutureWarning)
    from torchsurv.loss.cox import neg_partial_log_likelihood

TIES = pytest.mark.parametrize("ties", ["efron", "breslow"])
SEEDS = st.integers(0, 10**6)


def loss(of: Lives, risk: torch.Tensor, ties: str = "efron") -> torch.Tensor:
    return cox(risk, of.outcomes(), ties=ties).mean()


def test_the_partial_likelihood_equals_the_value_by_hand():
    # Hazards 2, 1, 1: the first dies of all three, the second of the last two, the third lives.
    of = Lives(
        np.array([1.0, 2, 3]), np.array([True, True, False]), np.zeros(3, int), np.ones(3, int)
    )
    risk = torch.tensor([[math.log(2)], [0.0], [0.0]]).double()
    assert loss(of, risk).item() == pytest.approx(-(math.log(2 / 4) + math.log(1 / 2)) / 2)


def test_ties_count_as_efron_and_breslow_say():
    # Hazards 2 and 1 die together, 1 lives on.
    of = Lives(
        np.array([1.0, 1, 3]), np.array([True, True, False]), np.zeros(3, int), np.ones(3, int)
    )
    risk = torch.tensor([[math.log(2)], [0.0], [0.0]]).double()
    efron = math.log(4) + math.log(4 - 3 / 2) - math.log(2)
    assert loss(of, risk).item() == pytest.approx(efron / 2)
    assert loss(of, risk, "breslow").item() == pytest.approx((2 * math.log(4) - math.log(2)) / 2)


@TIES
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, times=st.sampled_from([2, 5, None]))
def test_it_agrees_with_scikit_survival(ties: str, seed: int, times: int | None):
    of = lives.random(seed, 15, times=times, strata=1)
    of.event[0] = True
    risk = lives.scores(seed, 15)
    theirs = CoxPHOptimizer(risk.numpy(), of.event, of.time, np.zeros(1), ties)
    expected = theirs.nlog_likelihood(np.ones(1)) * 15 / of.event.sum()
    assert loss(of, risk, ties).item() == pytest.approx(expected, rel=1e-9)


@TIES
@pytest.mark.filterwarnings("ignore:Ties in")
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, times=st.sampled_from([2, 5, None]))
def test_it_agrees_with_torchsurv_in_strata(ties: str, seed: int, times: int | None):
    """In single precision, as there; who is censored at an event's time is not at risk there."""
    of = lives.random(seed, 15, times=times)
    of.event[0] = True
    of.time += 0.5 * ~of.event
    risk = lives.scores(seed, 15)
    summed = neg_partial_log_likelihood(
        risk[:, 0],
        torch.from_numpy(of.event),
        torch.from_numpy(of.time),
        ties_method=ties,
        reduction="sum",
        strata=torch.from_numpy(of.stratum),
    )
    assert loss(of, risk, ties).item() == pytest.approx(summed.item() / of.event.sum(), rel=1e-5)


@TIES
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_bags_of_a_patient_share_its_weight(ties: str, seed: int):
    of = lives.random(seed, 9, bags=3)
    risk = lives.scores(seed, len(of.patient))
    expected = lives.slow_cox(of, risk[:, 0].numpy(), ties)
    assert loss(of, risk, ties).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@TIES
@given(seed=SEEDS)
@settings(deadline=None, max_examples=25)
def test_equal_bags_of_a_patient_are_one_bag(ties: str, seed: int):
    one = lives.random(seed, 9)
    risk = lives.scores(seed, 9)
    many = replace(one, bags=np.random.default_rng(seed).integers(1, 4, 9))
    torch.testing.assert_close(loss(many, risk[many.patient], ties), loss(one, risk, ties))


def test_scans_of_one_patient_do_not_compete():
    """Alone at risk, a patient's two scans ask nothing, however far apart they are."""
    of = Lives(np.array([2.0, 1]), np.array([True, False]), np.zeros(2, int), np.array([2, 1]))
    risk = torch.tensor([[3.0], [-3.0], [0.0]]).double().requires_grad_()
    found = loss(of, risk)
    assert found.item() == 0
    assert not torch.autograd.grad(found, risk)[0].any()


@TIES
@given(seed=SEEDS)
@settings(deadline=None, max_examples=25)
def test_order_a_constant_and_the_clock_do_not_matter(ties: str, seed: int):
    of = lives.random(seed, 10)
    risk = lives.scores(seed, 10)
    expected = loss(of, risk, ties)
    order = np.random.default_rng(seed).permutation(10)
    moved = Lives(*(each[order] for each in (of.time, of.event, of.stratum, of.bags)))
    torch.testing.assert_close(loss(moved, risk[order], ties), expected)
    torch.testing.assert_close(loss(of, risk + 7.5, ties), expected)
    clock = replace(of, time=np.exp(of.time) + 3)
    assert torch.equal(loss(clock, risk, ties), expected)


@TIES
@given(seed=SEEDS)
@settings(deadline=None, max_examples=25)
def test_strata_are_likelihoods_of_their_own(ties: str, seed: int):
    of = lives.random(seed, 14, strata=3)
    risk = lives.scores(seed, 14)
    parts = 0.0
    for stratum in range(3):
        inside = of.stratum == stratum
        part = Lives(*(each[inside] for each in (of.time, of.event, of.stratum, of.bags)))
        parts += loss(part, risk[inside], ties).item() * part.event.sum() if inside.any() else 0
    assert loss(of, risk, ties).item() * of.event.sum() == pytest.approx(parts)


def test_a_batch_without_an_event_gives_zero_with_a_gradient():
    of = lives.random(0, 6, events=0)
    risk = lives.scores(0, 6).requires_grad_()
    found = loss(of, risk)
    assert found.item() == 0
    assert not torch.autograd.grad(found, risk)[0].any()


@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_huge_risks_keep_a_finite_gradient(scale: float):
    of = lives.random(3, 12)
    risk = (scale * torch.arange(12).float()[:, None]).requires_grad_()
    outcomes = of.outcomes()._replace(weight=torch.ones(12))
    found = cox(risk, outcomes, ties="efron").mean()
    assert found.isfinite() and torch.autograd.grad(found, risk)[0].isfinite().all()


@TIES
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_cox_agree_with_finite_differences(ties: str, seed: int):
    of = lives.random(seed, 8, bags=2)
    of.event[0] = True
    risk = lives.scores(seed, len(of.patient)).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: loss(of, at, ties), (risk,))


def slope_by_autograd(terms, at: torch.Tensor) -> torch.Tensor:
    factor = torch.ones(()).double()
    (slopes,) = torch.autograd.functional.jacobian(lambda w: (terms(w * at),), factor)
    return slopes


@TIES
@pytest.mark.parametrize("seed", range(4))
def test_slopes_of_cox_are_derivatives_in_a_common_factor(ties: str, seed: int):
    outcomes = lives.random(seed, 9, bags=2).outcomes()
    risk = lives.scores(seed, len(outcomes.rank))
    expected = slope_by_autograd(lambda at: cox(at, outcomes, ties=ties).each, risk)
    torch.testing.assert_close(cox_slopes(risk, outcomes, ties=ties), expected)


# Five events: intervals (0, 2], (2, 8], (8, 9] with 2, 2 and 1 of them; the middles are 1, 5, 8.5.
EVENTS = [1.0, 2.0, 4.0, 8.0, 9.0]


def test_intervals_hold_equally_many_events_and_are_closed_at_their_end():
    ends = survival.cuts(EVENTS, 3)
    assert ends.tolist() == [2, 8, 9]
    counts = np.bincount(np.searchsorted(ends, EVENTS))
    assert counts.tolist() == [2, 2, 1]
    drawn = np.random.default_rng(0).exponential(size=1000)
    assert set(np.bincount(np.searchsorted(survival.cuts(drawn.tolist(), 8), drawn))) == {125}
    assert survival.cuts([1.0, 1.0, 1.0, 2.0], 4).tolist() == [1, 2]


def test_who_was_censored_survived_the_intervals_whose_middle_was_reached():
    time = np.array([2.0, 2.1, 9.0, 9.5, 0.9, 1.0, 5.1, 8.5, 20.0])
    event = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], bool)
    survived, died = survival.intervals(time, event, survival.cuts(EVENTS, 3))
    assert survived.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 3]
    assert died.tolist() == [True, True, True, False, *[False] * 5]


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_the_discrete_likelihood_is_the_product_over_intervals(seed: int):
    of = lives.random(seed, 10, times=None, bags=2)
    of.event[:5] = True
    outcomes = of.outcomes(loss="discrete", num_intervals=4)
    logits = lives.scores(seed, len(of.patient), 4)
    hazard = torch.sigmoid(logits).numpy()
    terms = []
    for row, p in enumerate(of.patient):
        survived, died = int(outcomes.survived[row]), bool(outcomes.died[row])
        chance = np.prod(1 - hazard[row, :survived]) * (hazard[row, survived] if died else 1.0)
        terms.append(-np.log(chance) / of.bags[p])
    found = discrete(logits, outcomes).mean().item()
    assert found == pytest.approx(sum(terms) / len(of.time))


def test_gradients_of_the_discrete_likelihood_agree_with_finite_differences():
    outcomes = lives.random(1, 9, times=None, bags=2).outcomes(loss="discrete", num_intervals=3)
    logits = lives.scores(1, len(outcomes.rank), 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda at: discrete(at, outcomes).mean(), (logits,))
    expected = slope_by_autograd(lambda at: discrete(at, outcomes).each, logits.detach())
    torch.testing.assert_close(discrete_slopes(logits.detach(), outcomes), expected)


def test_the_risk_of_intervals_is_minus_the_expected_number_survived():
    hazard = torch.tensor([[0.5, 0.2, 0.75], [0.1, 0.1, 0.1]]).double()
    found = interval_risk(torch.logit(hazard))
    expected = [-(0.5 + 0.4 + 0.1), -(0.9 + 0.81 + 0.729)]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected).double())
    extreme = interval_risk(torch.tensor([[-200.0, -200], [200, 200]]).double())
    torch.testing.assert_close(extreme[:, 0], torch.tensor([-2.0, 0]).double())


def test_outcome_logits_are_the_chances_of_every_interval_and_of_none():
    hazard = torch.tensor([[0.5, 0.2]]).double()
    found = torch.softmax(outcome_logits(torch.logit(hazard)), dim=1)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.1, 0.4]]).double())


def test_score_losses_compare_risks_or_chances():
    logits = lives.scores(0, 5, 3)
    assert torch.equal(compared(logits, "huber"), interval_risk(logits))
    assert torch.equal(compared(logits, "jensen_shannon"), outcome_logits(logits))


@pytest.mark.parametrize("given", [{"loss": "cox", "ties": "breslow"}, {"loss": "discrete"}])
def test_the_mean_loss_is_that_of_the_configuration(given: dict[str, str]):
    of = lives.random(0, 30, times=None)
    scans = of.scans(**given)
    outcomes = of.outcomes(**given)
    at = lives.scores(0, 30, 1 if given["loss"] == "cox" else 10)
    found = mean_loss(at, outcomes, scans.settings)
    expected = cox(at, outcomes, ties="breslow") if len(at[0]) == 1 else discrete(at, outcomes)
    assert torch.equal(found, expected.mean())


def test_scores_of_intervals_start_at_the_hazards_of_training_patients():
    # Ends 2, 8, 9: two of ten die in the first, which six survive; censored ones are dropped there.
    time = np.array([*EVENTS, 0.5, 1.5, 3.0, 20.0, 0.5])
    event = np.array([True] * 5 + [False] * 5)
    of = Lives(time, event, np.zeros(10, int), np.array([1, 3, *[1] * 8]))
    found = survival.base_logits(of.scans(loss="discrete", num_intervals=3))
    # Survivors: of the first 4, 8, 9 and those censored at 1.5, 3, 20; then 9 and 20; then 20.
    expected = [np.log(2.5 / 6.5), np.log(2.5 / 2.5), np.log(1.5 / 1.5)]
    assert found == pytest.approx(expected)
