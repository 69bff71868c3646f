import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw

from training.metrics import concordance
from training.metrics.concordance import grouped_concordance, harrell, uncensored, uno

CASES = st.lists(
    st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=25
)


def arrays(rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    time, event, risk = (np.array(each) for each in zip(*rows, strict=True))
    return time.astype(float), event.astype(bool), risk.astype(float)


def slow(time, event, risk, weight) -> float:
    right = total = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            later = time[j] > time[i] or (time[j] == time[i] and not event[j])
            if event[i] and weight[i] and later:
                total += weight[i]
                right += weight[i] * (float(risk[i] > risk[j]) + 0.5 * float(risk[i] == risk[j]))
    return right / total if total else np.nan


def slow_remaining(time, event, at: float) -> float:
    kept = 1.0
    for t in sorted(set(time[(time <= at) & ~event])):
        staying = (time > t).sum() + ((time == t) & ~event).sum()
        kept *= 1 - ((time == t) & ~event).sum() / staying
    return kept


@settings(deadline=None, max_examples=50)
@given(CASES)
def test_harrell_agrees_with_a_loop_over_pairs(rows):
    time, event, risk = arrays(rows)
    expected = slow(time, event, risk, np.ones(len(time)))
    np.testing.assert_allclose(harrell(time, event, risk), expected, rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(CASES, st.one_of(st.none(), st.integers(1, 7).map(float)))
def test_uno_agrees_with_a_loop_over_pairs(rows, horizon):
    time, event, risk = arrays(rows)
    remaining = np.array([slow_remaining(time, event, at) for at in time])
    np.testing.assert_allclose(uncensored(time, event, at=time), remaining, atol=1e-12)
    event_before = event & (time < (np.inf if horizon is None else horizon))
    later = [((time > t) | ((time == t) & ~event)).any() for t in time]
    if (event_before & (remaining == 0) & later).any():
        expected = np.nan
    else:
        weight = event_before / np.square(np.where(remaining > 0, remaining, 1.0))
        expected = slow(time, event, risk, weight)
    np.testing.assert_allclose(uno(time, event, risk, horizon=horizon), expected, rtol=1e-9)


def test_without_censoring_both_are_the_share_of_ordered_pairs():
    generator = np.random.default_rng(0)
    time, event = generator.permutation(50) + 1.0, np.ones(50, bool)
    assert harrell(time, event, -time) == uno(time, event, -time) == 1.0
    assert harrell(time, event, time) == uno(time, event, time) == 0.0
    assert harrell(time, event, np.zeros(50)) == 0.5
    risk = generator.normal(size=50)
    assert harrell(time, event, risk) == pytest.approx(uno(time, event, risk))


def test_uno_corrects_for_censoring_that_hides_late_pairs():
    """The risk orders early deaths alone; under censoring Harrell's sees too few late pairs."""
    generator = np.random.default_rng(1)
    time = generator.exponential(size=4000)
    risk = np.where(time < 0.5, -time, generator.normal(size=4000))
    truth = harrell(np.minimum(time, 2.0), time < 2.0, risk)
    censoring = generator.uniform(0, 3, size=4000)
    seen, event = np.minimum(time, censoring), time <= censoring
    errors = [
        abs(c - truth) for c in (uno(seen, event, risk, horizon=2.0), harrell(seen, event, risk))
    ]
    assert errors[0] < 0.01 < errors[1]


def test_nothing_to_compare_is_nan():
    one = np.array([1.0])
    assert np.isnan(harrell(one, np.array([True]), one))
    assert np.isnan(harrell(np.ones(3), np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(uno(np.array([1.0, 2.0]), np.array([False, False]), np.zeros(2)))
    assert np.isnan(harrell(np.array([1.0, 2]), np.ones(2, bool), np.array([np.nan, 0])))


def test_censoring_of_others_may_leave_no_weight():
    time, event, risk = np.array([5.0, 9.0]), np.array([True, True]), np.array([1.0, 0.0])
    training = np.array([1.0, 2.0]), np.array([False, False])
    assert np.isnan(uno(time, event, risk, censoring=training))
    training = np.array([1.0, 20.0]), np.array([False, True])
    assert uno(time, event, risk, censoring=training) == 1.0


def test_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(2)
    time, event = generator.exponential(size=300), generator.random(300) < 0.6
    risk = generator.normal(size=300)
    whole = harrell(time, event, risk)
    monkeypatch.setattr(concordance, "_PAIRS", 1000)
    assert harrell(time, event, risk) == whole


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_both_agree_with_scikit_survival(seed: int):
    draw = np.random.default_rng(seed)

    def drawn(num: int):
        time = draw.integers(1, 15, num).astype(float)
        outcome = np.array(
            list(zip(draw.random(num) < 0.6, time, strict=True)), [("e", bool), ("t", float)]
        )
        outcome["e"][0], outcome["t"][0] = True, 1.0
        return outcome

    train, test = drawn(80), drawn(40)
    # All of these need a time that training patients reached; scores on a grid have ties.
    test["t"] = np.minimum(test["t"], train["t"].max() - 1)
    risk = draw.integers(0, 12, 40).astype(float)
    (theirs, *_) = concordance_index_censored(test["e"], test["t"], risk)
    assert harrell(test["t"], test["e"], risk) == pytest.approx(theirs)
    horizon = float(train["t"][train["e"]].max())
    (theirs, *_) = concordance_index_ipcw(train, test, risk, tau=horizon)
    found = uno(
        test["t"], test["e"], risk, horizon=horizon, censoring=(train["t"], train["e"].copy())
    )
    assert found == pytest.approx(theirs)


def test_groups_and_weights_are_measured_by_themselves():
    draw = np.random.default_rng(3)
    time, event = draw.integers(1, 9, 60).astype(float), draw.random(60) < 0.6
    risk, group = draw.normal(size=60), draw.integers(0, 4, 60) * 2
    weight = np.where(event, draw.random(60), 0.0)
    found = grouped_concordance(time, event, risk, group, 8, event.astype(float), weight)
    assert found.shape == (2, 8)
    for number in range(8):
        mine = group == number
        rows = time[mine], event[mine], risk[mine]
        expected = [slow(*rows, np.ones(mine.sum())), slow(*rows, weight[mine])]
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-12)
