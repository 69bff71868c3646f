from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.losses import kinds, lives
from tests.training.losses.lives import Lives
from training.data import survival
from training.data.loading import Batch
from training.losses.cohort import CohortCox
from training.losses.survival import FAR, cox

TIES = pytest.mark.parametrize("ties", ["efron", "breslow"])
SEEDS = st.integers(0, 10**6)


def batch(of: Lives, rows: np.ndarray) -> Batch:
    """These bags, and the cohort of all patients."""
    scans = of.scans(risk_set="cohort")
    cohort = survival.cohort(scans, torch.from_numpy)
    return replace(kinds.batch(), outcomes=lives.outcomes(scans, rows, cohort))


def rows_of(of: Lives, patients: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(of.patient, patients))


def module(of: Lives, ties: str = "efron") -> CohortCox:
    return CohortCox(ties, len(of.time)).double()


def remembered(of: Lives, risk: torch.Tensor, ties: str = "efron") -> CohortCox:
    """A memory that has seen everyone once, in parts."""
    made, order = module(of, ties), np.random.default_rng(0).permutation(len(of.time))
    for part in np.array_split(order, 3):
        rows = rows_of(of, part)
        made(risk[rows], batch(of, rows))
    return made


@TIES
@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_the_first_batch_is_all_that_is_known(ties: str, seed: int):
    of = lives.random(seed, 12, bags=2)
    rows = rows_of(of, np.arange(0, 12, 2))
    risk = lives.scores(seed, len(of.patient))[rows].requires_grad_()
    found = module(of, ties)(risk, batch(of, rows))
    alone = cox(risk, lives.outcomes(of.scans(), rows), ties=ties).mean()
    torch.testing.assert_close(found, alone)
    torch.testing.assert_close(*(torch.autograd.grad(each, risk)[0] for each in (found, alone)))


@TIES
@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, strata=st.integers(1, 3), times=st.sampled_from([3, 8, None]))
def test_with_everyone_remembered_the_value_is_that_of_the_whole_cohort(
    ties: str, seed: int, strata: int, times: int | None
):
    of = lives.random(seed, 14, strata=strata, times=times)
    of.event[0] = True
    risk = lives.scores(seed, 14)
    rows = rows_of(of, np.arange(14)[seed % 14 :][:5])
    found = remembered(of, risk, ties)(risk[rows], batch(of, rows))
    expected = lives.slow_cox(of, risk[:, 0].numpy(), ties)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@TIES
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_steps_of_an_epoch_add_up_to_the_gradient_of_the_cohort(ties: str, seed: int):
    """Equal batches: the mean of their gradients is that of the likelihood of all."""
    of = lives.random(seed, 15)
    of.event[0] = True
    whole = lives.scores(seed, 15).requires_grad_()
    everyone = cox(whole, of.outcomes(), ties=ties).mean()
    (expected,) = torch.autograd.grad(everyone, whole)
    made, found = remembered(of, whole.detach(), ties), torch.zeros(15, 1).double()
    for part in np.array_split(np.random.default_rng(seed).permutation(15), 5):
        rows = np.sort(part)
        risk = whole.detach()[rows].requires_grad_()
        (gradient,) = torch.autograd.grad(made(risk, batch(of, rows)), risk)
        found[rows] += gradient / 5
    torch.testing.assert_close(found, expected)
    assert abs(found.sum().item()) < 1e-12  # nothing is gained by higher risks for all


@TIES
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_finite_differences_times_patients_per_patient_of_the_batch(
    ties: str, seed: int
):
    of = lives.random(seed, 12, bags=2, times=4)
    of.event[:3] = True
    risk = lives.scores(seed, len(of.patient))
    made = remembered(of, risk, ties).eval()
    rows = rows_of(of, np.array([0, 1, 5, 7]))
    at, given = risk[rows].requires_grad_(), batch(of, rows)
    (gradient,) = torch.autograd.grad(made(at, given), at)
    for place in range(len(rows)):
        step = torch.zeros_like(at)
        step[place] = 1e-6
        up, down = (made((at + sign * step).detach(), given).item() for sign in (1, -1))
        assert gradient[place].item() == pytest.approx(12 / 4 * (up - down) / 2e-6, abs=1e-7)


def test_the_memory_holds_the_last_log_hazard_of_those_who_were_seen():
    of = lives.random(0, 6, bags=2)
    made = module(of)
    rows = rows_of(of, np.array([1, 4]))
    risk = lives.scores(0, len(rows))
    made(risk, batch(of, rows))
    for patient in range(6):
        mine = risk[of.patient[rows] == patient, 0]
        expected = mine.exp().mean().log().item() if len(mine) else FAR
        assert made.memory[patient].item() == pytest.approx(expected)
    before = made.memory.clone()
    made.eval()(risk + 1, batch(of, rows))
    assert torch.equal(made.memory, before)
    made.train()(risk + 1, batch(of, rows))
    assert made.memory[1].item() == pytest.approx(before[1].item() + 1)


def test_a_batch_without_an_event_learns_from_the_events_of_others():
    of = Lives(
        np.array([1.0, 2, 3]), np.array([True, False, False]), np.zeros(3, int), np.ones(3, int)
    )
    made = remembered(of, torch.zeros(3, 1).double())
    risk = torch.zeros(1, 1).double().requires_grad_()
    found = made(risk, batch(of, np.array([1])))
    assert found.item() == pytest.approx(np.log(3))
    assert torch.autograd.grad(found, risk)[0].item() == pytest.approx(3 * 1 / 3)


def test_nobody_known_with_an_event_gives_zero():
    of = lives.random(0, 6)
    of.event[:] = [True, *[False] * 5]
    risk = torch.zeros(2, 1).double().requires_grad_()
    found = module(of)(risk, batch(of, np.array([3, 4])))
    assert found.item() == 0 and not torch.autograd.grad(found, risk)[0].any()
