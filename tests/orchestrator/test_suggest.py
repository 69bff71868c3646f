import math

import pytest
from pydantic import TypeAdapter

from orchestrator import spec_search, suggest
from orchestrator.spec_search import OptunaSearch


def make(**changes) -> OptunaSearch:
    plain = {"kind": "optuna", "samples": 40, "batch": 6, "space": {
        "optim.lr": {"low": 1e-4, "high": 1, "log": True},
        "losses.a.weight": {"low": 0, "high": 10},
        "losses.a.form": {"choices": ["x", "y", None]},
    }}  # fmt: skip
    return TypeAdapter(OptunaSearch).validate_python(plain | changes)


def value(setting) -> float:
    """Best at a rate of 0.01 and a weight of 7, whatever the form."""
    return -abs(math.log10(setting["optim.lr"]) + 2) - abs(setting["losses.a.weight"] - 7) / 5


def follow(search, samples):
    told = [(one, value(one)) for one in spec_search.initial(search)]
    while len(told) < samples:
        told += [(one, value(one)) for one in suggest.settings(search, told, search.batch)]
    return told


def test_equal_results_give_equal_suggestions():
    search = make()
    assert follow(search, 24) == follow(search, 24)


def test_another_seed_and_other_results_give_others():
    search, told = make(), follow(make(), 12)
    first = suggest.settings(search, told, 6)
    assert suggest.settings(make(seed=1), told, 6) != first
    assert suggest.settings(search, [(one, -found) for one, found in told], 6) != first


def test_suggestions_lie_in_the_space_and_are_never_repeated():
    search = make()
    told = follow(search, 36)
    assert len({tuple(one.items()) for one, _ in told}) == len(told)
    for setting, _ in told:
        assert list(setting) == list(search.space)
        assert 1e-4 <= setting["optim.lr"] <= 1 and 0 <= setting["losses.a.weight"] <= 10
        assert setting["losses.a.form"] in ("x", "y", None)
        assert float(f"{setting['optim.lr']:.6g}") == setting["optim.lr"]


def test_later_suggestions_are_better_than_random_settings():
    found = [found for _, found in follow(make(), 60)][30:]
    random = [value(one) for one in spec_search.drawn(make(), 60)][30:]
    assert sum(found) / len(found) > sum(random) / len(random) + 0.3


def test_a_failed_setting_is_told_and_not_suggested_again():
    search = make(space={"a": {"choices": [1, 2, 3, 4]}})
    told = [({"a": 1}, None), ({"a": 2}, 0.5)]
    assert sorted(one["a"] for one in suggest.settings(search, told, 6)) == [3, 4]


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_are_suggested_as_are_asked_for(count):
    assert len(suggest.settings(make(), follow(make(), 6), count)) == count
