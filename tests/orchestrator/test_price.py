import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator import price, spec
from orchestrator.events import Observation
from tests.orchestrator import specs


def seen(seconds, *, kind="a", lanes=8, device="cpu"):
    return Observation(kind=kind, lanes=lanes, seconds=seconds, device=device)


def estimate(packs, observations, *, gpus=1.0, workers=4):
    return price.estimate(packs, observations, gpus_per_worker=gpus, workers=workers)


def test_trials_that_differ_in_fold_and_seeds_cost_the_same(tmp_path):
    base = spec.expand(specs.read(tmp_path, specs.SMALL))[0].config
    other = base.model_copy(update={"fold": 1, "seed": 7, "draw_seed": 9})
    assert price.kind(base, ["x"]) == price.kind(other, ["x"])
    longer = base.model_copy(update={"optim": base.optim.model_copy(update={"epochs": 999})})
    assert price.kind(longer, ["x"]) != price.kind(base, ["x"])
    retiring = price.kind(base, ["x"], retires=True)
    assert retiring not in (price.kind(base, ["x"]), price.kind(longer, ["x"]))


def test_packs_of_the_same_losses_cost_the_same_and_of_others_do_not(tmp_path):
    base = spec.expand(specs.read(tmp_path, specs.SMALL))[0].config
    one, both = price.kind(base, ["x"]), price.kind(base, ["x", "y", "x"])
    assert both == price.kind(base, {"y", "x"}) != one != price.kind(base, ["y"])


def test_an_unknown_kind_cannot_be_predicted():
    assert price.predict([seen(10.0)], "b", 8) is None


def test_the_upper_bound_is_above_what_was_seen():
    expected, upper = price.predict([seen(s) for s in (90.0, 100.0, 130.0)], "a", 8)
    assert expected == 100 and upper > 130
    expected, upper = price.predict([seen(100.0)], "a", 8)
    assert expected == 100 and upper >= 150


def test_time_grows_with_lanes_on_a_cpu_and_does_not_shrink_on_a_gpu():
    assert price.predict([seen(100.0)], "a", 16)[0] == 200
    assert price.predict([seen(100.0)], "a", 4)[0] == 50
    assert price.predict([seen(100.0)], "a", 1)[0] == price.predict([seen(100.0)], "a", 2)[0]
    gpu = [seen(100.0, device="NVIDIA H200")]
    assert price.predict(gpu, "a", 16)[0] == 200 and price.predict(gpu, "a", 4)[0] == 100


def test_nothing_known_is_no_number():
    found = estimate([("a", 8)], [])
    assert math.isnan(found.gpu_hours) and math.isnan(found.high) and found.unknown == 1
    assert estimate([], []).gpu_hours == 0


def test_the_price_is_that_of_the_packs():
    found = estimate([("a", 8)] * 10, [seen(3600.0)] * 3, gpus=0.5, workers=5)
    assert found.gpu_hours == pytest.approx(5) and found.seconds == pytest.approx(2 * 3600)
    assert found.low == pytest.approx(5) and found.high == pytest.approx(5)
    assert found.unknown == 0 and "3 packs" in found.source


def test_a_kind_that_was_never_seen_counts_as_the_others_and_widens_the_interval():
    known = estimate([("a", 8)] * 4, [seen(s) for s in (3500.0, 3600.0, 3700.0)])
    mixed = estimate([("a", 8)] * 2 + [("b", 8)] * 2, [seen(s) for s in (3500.0, 3600.0, 3700.0)])
    assert mixed.gpu_hours == pytest.approx(known.gpu_hours)
    assert mixed.high - mixed.low > 3 * (known.high - known.low) and mixed.low > 0
    assert mixed.unknown == 2 and "never seen" in mixed.source


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 64)), min_size=1, max_size=30),
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(1, 1e5)), min_size=1, max_size=12),
)
def test_an_estimate_lies_in_its_interval(packs, observed):
    found = estimate(packs, [seen(seconds, kind=kind) for kind, seconds in observed])
    if found.unknown == len(packs):
        assert math.isnan(found.gpu_hours)
    else:
        assert 0 <= found.low <= found.gpu_hours * (1 + 1e-9) and found.gpu_hours <= found.high
        assert found.seconds > 0


def test_the_interval_holds_what_it_promises():
    draws = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        first = draws.normal(100, 15, size=5)
        paid = draws.normal(100, 15, size=40).sum()
        found = estimate([("a", 8)] * 40, [seen(float(s)) for s in first], gpus=3600.0)
        hits += found.low <= paid <= found.high
    assert 0.86 <= hits / 400 <= 0.96


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 10, 20, 40, 120])
def test_the_table_of_student_is_right(degrees):
    assert price._t95(degrees) == pytest.approx(stats.t.ppf(0.95, degrees), abs=6e-4)
