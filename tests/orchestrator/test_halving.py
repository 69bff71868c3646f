import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.halving import Bracket, Rungs, asking

BRACKET = Bracket("b", 1, 2)


def ended(rungs: Rungs, values: dict[str, float], *, epoch=1, bracket=BRACKET) -> list[str]:
    return rungs.judge(bracket, epoch, values)["retired"]


def test_rungs_are_the_grace_times_powers_of_the_reduction():
    bracket = Bracket("b", 2, 3)
    assert [epoch for epoch in range(1, 60) if bracket.is_rung(epoch)] == [2, 6, 18, 54]


def test_a_bracket_reads_back():
    assert Bracket.parse(str(Bracket("3fa9c1d20b47", 2, 3))) == Bracket("3fa9c1d20b47", 2, 3)


def test_a_trial_below_the_quantile_of_the_others_ends_by_hand():
    # Reduction 3 keeps what reaches the 2/3 quantile of the others.
    rungs, bracket = Rungs(), Bracket("b", 1, 3)
    assert ended(rungs, {"a": 0.5}, bracket=bracket) == []
    assert ended(rungs, {"b": 0.4}, bracket=bracket) == ["b"]
    # Others: 0.4, 0.5; quantile 0.4 + 2/3 * 0.1 = 0.4667.
    assert ended(rungs, {"c": 0.46}, bracket=bracket) == ["c"]
    assert ended(rungs, {"d": 0.49}, bracket=bracket) == []


def test_trials_of_one_pack_are_compared_with_each_other_at_once():
    assert ended(Rungs(), {"a": 1, "b": 2, "c": 3, "d": 4}) == ["a", "b"]
    assert ended(Rungs(), {"d": 4, "c": 3, "b": 2, "a": 1}) == ["b", "a"]


def test_a_trial_that_comes_again_hears_the_same_also_from_the_next_driver():
    rungs = Rungs()
    told = [rungs.judge(BRACKET, 1, {"a": 1.0, "b": 2.0}), rungs.judge(BRACKET, 1, {"c": 9.0})]
    assert told[0]["retired"] == ["a"]
    later = Rungs().recall(json.loads(json.dumps(told)))
    assert ended(later, {"a": 99.0, "b": 0.0}) == ["a"]
    assert ended(later, {"d": 8.0}) == []
    assert ended(later, {"d": 1.0}, epoch=2) == []


def test_other_rungs_of_a_search_judge_anew_by_the_values_that_are_known():
    told = [Rungs().judge(Bracket("b", 1, 3), 1, {"a": 0.5, "b": 0.4, "c": 0.3})]
    assert told[0]["retired"] == ["b", "c"]
    rungs = Rungs().recall(told)
    # Kept is one of two now, not one of three: b reaches the median of a and c.
    assert ended(rungs, {"b": 0.4}, bracket=Bracket("b", 1, 2)) == []
    assert ended(rungs, {"c": 0.3}, bracket=Bracket("b", 1, 2)) == ["c"]


def test_brackets_do_not_see_each_other():
    rungs = Rungs()
    assert ended(rungs, {"a": 9}) == []
    assert ended(rungs, {"b": 1}, bracket=Bracket("other", 1, 2)) == []


numbers = st.floats(-1e3, 1e3, allow_subnormal=False)


@given(values=st.lists(numbers, min_size=1, max_size=12), reduction=st.integers(2, 5))
def test_the_best_goes_on_and_nobody_ends_who_is_better_than_who_stays(values, reduction):
    named = {str(number): value for number, value in enumerate(values)}
    retired = set(ended(Rungs(), named, bracket=Bracket("b", 1, reduction)))
    best = max(values)
    assert all(name not in retired for name, value in named.items() if value == best)
    kept = [value for name, value in named.items() if name not in retired]
    lost = [value for name, value in named.items() if name in retired]
    assert not lost or max(lost) <= min(kept)
    assert len(retired) <= len(values) * (1 - 1 / reduction) + 1


@given(values=st.lists(numbers, min_size=2, max_size=12, unique=True), data=st.data())
def test_the_order_of_the_lanes_of_a_pack_does_not_matter(values, data):
    named = {str(number): value for number, value in enumerate(values)}
    order = data.draw(st.permutations(list(named)))
    shuffled = {name: named[name] for name in order}
    assert set(ended(Rungs(), named)) == set(ended(Rungs(), shuffled))


@settings(deadline=None)
@given(
    reports=st.lists(st.tuples(st.integers(0, 9), st.integers(-50, 50)), min_size=1, max_size=60),
    grace=st.integers(1, 3),
    reduction=st.integers(2, 4),
)
def test_trials_one_by_one_meet_the_rule_of_tunes_scheduler(reports, grace, reduction):
    """The second implementation: Tune's, through its public methods, with stand-ins for trials."""
    schedulers = pytest.importorskip("ray.tune.schedulers")
    tunes = schedulers.AsyncHyperBandScheduler(
        time_attr="epoch", metric="value", mode="max", max_t=30, grace_period=grace,
        reduction_factor=reduction, stop_last_trials=False,
    )  # fmt: skip
    ours, epochs, over = Rungs(), dict[int, int](), set[int]()
    bracket = Bracket("b", grace, reduction)
    for number, value in reports:
        if number in over or epochs.get(number, 0) == 29:
            continue
        trial = SimpleNamespace(trial_id=str(number))
        if number not in epochs:
            tunes.on_trial_add(None, trial)
        epoch = epochs[number] = epochs.get(number, 0) + 1
        theirs = tunes.on_trial_result(None, trial, {"epoch": epoch, "value": value})
        mine = bracket.is_rung(epoch) and bool(
            ours.judge(bracket, epoch, {str(number): value})["retired"]
        )
        assert mine == (theirs == schedulers.TrialScheduler.STOP)
        if mine:
            over.add(number)


def test_a_worker_asks_at_rungs_for_trials_of_a_search_whose_value_is_defined():
    calls = []

    def judge(bracket, epoch, values):
        calls.append((bracket.name, epoch, dict(values)))
        return [min(values, key=values.get)]

    retire = asking(
        judge, ["p", "q", "r", "s"], {"p": "x:2:2", "q": "x:2:2", "s": "y:4:2"},
        lower_is_better=False,
    )  # fmt: skip
    assert retire(1, {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8}) == []
    assert retire(2, {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8}) == [0]
    assert retire(4, {1: float("nan"), 2: 0.7, 3: 0.8}) == [3]
    assert calls == [("x", 2, {"p": 0.5, "q": 0.6}), ("y", 4, {"s": 0.8})]


def test_of_losses_the_higher_one_ends():
    retire = asking(one_broker(), ["p", "q"], {"p": "x:1:2", "q": "x:1:2"}, lower_is_better=True)
    assert retire(1, {0: 0.9, 1: 0.1}) == [0]


def test_without_a_search_nobody_asks():
    assert asking(one_broker(), ["p"], {}, lower_is_better=False) is None
    assert asking(None, ["p"], {"p": "x:1:2"}, lower_is_better=False) is None


def one_broker():
    rungs = Rungs()
    return lambda bracket, epoch, values: rungs.judge(bracket, epoch, values)["retired"]
