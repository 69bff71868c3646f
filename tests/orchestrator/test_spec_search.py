import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator import spec, spec_search
from orchestrator.spec_search import Search
from tests.orchestrator.specs import problems, read, small

COHORT = {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": 3}
WEIGHT = {"losses.score.weight": {"low": 0.01, "high": 10, "log": True}}


def make(**changes) -> Search:
    plain = {"kind": "random", "samples": 8, "space": {"optim.lr": {"low": 0, "high": 1}}}
    return TypeAdapter(Search).validate_python(plain | changes)


def searched(search: dict, **changes):
    arm = {"views": "all", "losses": {"score": {"kind": "score"}}, "search": search}
    return small(arms={"erm": {"views": "routine"}, "score": arm}, **changes)


def random(samples=4, space=None, **more):
    return {"kind": "random", "samples": samples, "space": space or WEIGHT, **more}


spaces = st.dictionaries(
    st.sampled_from(["optim.lr", "optim.clip", "head.dropout"]),
    st.one_of(
        st.tuples(st.floats(1e-6, 1e3), st.floats(1.01, 1e6), st.booleans()).map(
            lambda ends: {"low": ends[0], "high": ends[0] * ends[1], "log": ends[2]}
        ),
        st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(
            lambda values: {"choices": values}
        ),
    ),
    min_size=1,
)


@given(space=spaces, few=st.integers(1, 10), more=st.integers(0, 10), seed=st.integers(0, 99))
def test_more_samples_keep_the_earlier_settings_and_all_lie_in_the_space(space, few, more, seed):
    short = spec_search.initial(make(samples=few, space=space, seed=seed))
    long = spec_search.initial(make(samples=few + more, space=space, seed=seed))
    assert long[: len(short)] == short
    assert len({tuple(setting.items()) for setting in long}) == len(long)
    for setting in long:
        assert setting.keys() == space.keys()
        for key, value in setting.items():
            one = space[key]
            inside = value in one["choices"] if "choices" in one else True
            assert inside and ("choices" in one or one["low"] <= value <= one["high"])


def test_the_draws_of_a_key_do_not_depend_on_the_other_keys():
    lr = {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    alone = spec_search.initial(make(space=lr))
    other = spec_search.initial(make(space={"head.dropout": {"low": 0, "high": 0.5}, **lr}))
    assert [one["optim.lr"] for one in alone] == [one["optim.lr"] for one in other]


def test_settings_are_the_same_on_every_machine_and_day():
    space = {"optim.lr": {"low": 1e-4, "high": 1, "log": True}, "x": {"choices": [1, 2, None]}}
    found = spec_search.initial(make(samples=2, space=space))
    assert found == ({"optim.lr": 0.258946, "x": 2}, {"optim.lr": 0.00835325, "x": 2})


def test_draws_are_even_on_the_scale_that_is_asked_for():
    for log, middle in ((False, 500.0005), (True, 1.0)):
        space = {"x": {"low": 1e-3, "high": 1e3, "log": log}}
        found = [one["x"] for one in spec_search.initial(make(samples=2000, space=space))]
        below = sum(value < middle for value in found) / 2000
        assert below == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 2000))


def test_a_small_space_is_drawn_whole_and_no_further():
    space = {"a": {"choices": [1, 2, 3]}, "b": {"choices": [0, 1]}}
    assert len(spec_search.initial(make(samples=6, space=space))) == 6
    assert len(spec_search.initial(make(samples=7, space=space))) == 6


def test_a_search_makes_cells_that_all_encoders_folds_and_seeds_share(tmp_path):
    rows = spec.expand(read(tmp_path, searched(random(samples=5))))
    own = [row for row in rows if row.arm == "score"]
    assert len(own) == 2 * 5 * 3 * 2
    weights = {
        (row.encoder, row.fold, row.seed): [
            one.config.losses[0].weight
            for one in own
            if (one.encoder, one.fold, one.seed) == (row.encoder, row.fold, row.seed)
        ]
        for row in own
    }
    assert len({tuple(found) for found in weights.values()}) == 1
    assert len(set(next(iter(weights.values())))) == 5
    assert {row.search for row in own} == {"random"}
    assert {row.search for row in rows if row.arm == "erm"} == {""}
    assert [row.axes["losses.score.weight"] for row in rows[:1]] == [None]
    assert all(row.axes["losses.score.weight"] == row.config.losses[0].weight for row in own)


def test_a_search_crosses_with_the_arms_own_grid_and_the_specs(tmp_path):
    text = searched(random(samples=3), grid={"optim.lr": [0.1, 0.2]})
    text["arms"]["score"]["grid"] = {"optim.epochs": [2, 3]}
    rows = spec.expand(read(tmp_path, text))
    found = {
        (row.config.optim.lr, row.config.optim.epochs, row.config.losses[0].weight)
        for row in rows
        if row.arm == "score"
    }
    assert len(found) == 2 * 2 * 3


def test_the_specs_grid_does_not_vary_what_an_arm_searches(tmp_path):
    text = searched(random(samples=3, space={"optim.lr": {"low": 0.1, "high": 0.2}}))
    rows = spec.expand(read(tmp_path, text | {"grid": {"optim.lr": [0.5, 0.6]}}))
    assert {row.config.optim.lr for row in rows if row.arm == "erm"} == {0.5, 0.6}
    assert all(row.config.optim.lr < 0.2 for row in rows if row.arm == "score")


def test_launching_a_search_with_more_samples_adds_trials_and_changes_none(tmp_path):
    few = {row.config for row in spec.expand(read(tmp_path, searched(random(samples=3))))}
    more = {row.config for row in spec.expand(read(tmp_path, searched(random(samples=6))))}
    assert few < more


def test_a_stored_spec_reads_back_to_the_same_settings(tmp_path):
    first = read(tmp_path, searched(random(samples=3) | {"kind": "asha"}))
    again = read(tmp_path, first.document())
    rows, others = spec.expand(first), spec.expand(again)
    assert [(row.config, row.bracket) for row in rows] == [
        (row.config, row.bracket) for row in others
    ]


def test_a_bracket_compares_settings_and_nothing_else(tmp_path):
    text = searched(random(samples=4) | {"kind": "asha", "grace": 2})
    text["arms"]["score"]["grid"] = {"optim.lr": [0.1, 0.2]}
    rows = [row for row in spec.expand(read(tmp_path, text)) if row.bracket]
    groups: dict = {}
    for row in rows:
        groups.setdefault(row.bracket, []).append(row)
    assert len(groups) == 2 * 2 * 3 * 2
    for members in groups.values():
        assert len(members) == 4
        same = {(r.encoder, r.fold, r.seed, r.config.optim.lr) for r in members}
        assert len(same) == 1
        assert len({r.config.losses[0].weight for r in members}) == 4
    text["arms"]["score"]["search"]["samples"] = 6
    more = {row.bracket for row in spec.expand(read(tmp_path, text))}
    assert more == set(groups) | {""}


def test_suggestions_follow_the_first_settings_up_to_the_samples(tmp_path):
    text = searched(
        random(samples=5) | {"kind": "optuna", "batch": 2}, encoders=["uni"], folds=COHORT
    )
    sweep = read(tmp_path, text)
    first = [row for row in spec.expand(sweep) if row.searched]
    assert len({row.cell for row in first}) == 2
    (group,) = {row.searched.group for row in first}
    suggested = {group: [{"losses.score.weight": 0.5 + n} for n in range(9)]}
    rows = [row for row in spec.expand(sweep, suggested) if row.searched]
    weights = list(dict.fromkeys(row.config.losses[0].weight for row in rows))
    assert weights[:2] == [row.config.losses[0].weight for row in first[::6]]
    assert weights[2:] == [0.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (random(samples=0), "samples: found 0; expected at least 1"),
        (random() | {"kind": "rand"}, "kind: found 'rand'; expected one of random, asha, optuna"),
        (random() | {"grace": 2}, "grace: unknown key for this kind of search"),
        (random(space={"optim.lrr": {"choices": [1]}}), "optim.lrr: unknown key; did you mean o"),
        (random(space={"losses.score.wight": {"choices": [1]}}), "did you mean losses.score.weig"),
        (random(space={"folds.seed": {"choices": [1]}}), "folds.seed: not for a search; expected"),
        (random(space={"encoder": {"choices": ["uni"]}}), "encoder: not for a search; expected"),
        (random(space={"stopping.patience": {"choices": [1]}}), "patience: not for a search"),
        (random(space={"optim.lr": {"low": 2, "high": 1}}), "found low 2.0 and high 1.0; expected"),
        (random(space={"optim.lr": {"low": 1, "high": 1}}), "found low 1.0 and high 1.0; expected"),
        (
            random(space={"optim.weight_decay": {"low": 0, "high": 1, "log": True}}),
            "weight_decay.low: found 0.0; expected more than 0 where log is true",
        ),
        (
            random(space={"optim.lr": {"low": 0, "high": 1}}),
            "optim.lr.low: found 0.0; expected more than 0",
        ),
        (
            random(space={"head.dropout": {"low": 0, "high": 1}}),
            "head.dropout.high: found 1.0; expected less than 1",
        ),
        (random(space={"optim.lr": {"low": 0.1}}), "high: missing; expected upper end"),
        (random(space={"optim.lr": [1, 2]}), "optim.lr: found [1, 2]; expected a mapping"),
        (
            random(space={"head.attention_dim": {"low": 1, "high": 9}}),
            "found a range, which is for numbers with fractions; expected choices",
        ),
        (random(space={"optim.lr": {"choices": [1, 1]}}), "found 1 twice; expected different"),
        (random(2, {"optim.lr": {"choices": [1, "a"]}}), "found 'a'; expected a number"),
        (
            random(space={"optim.lr": {"choices": [1, 2]}}),
            "samples: found 4; expected at most 2, all that the space has",
        ),
        (
            random(space={"optim.epochs": {"choices": [1, 2, 3, 4]}}) | {"kind": "asha"},
            "asha compares settings after equally many epochs",
        ),
        (random() | {"kind": "asha", "grace": 20}, "grace: found 20; expected less than optim.ep"),
        (random() | {"kind": "asha", "reduction": 1}, "reduction: found 1; expected at least 2"),
    ],
)
def test_a_wrong_search_is_refused_with_one_line(tmp_path, search, expected):
    found = problems(tmp_path, searched(search))
    assert len(found) == 1, found
    assert expected in found[0] and ": arms.score.search." in found[0]


@pytest.mark.parametrize("kind", ["asha", "optuna"])
def test_a_search_that_compares_needs_validation_patients(tmp_path, kind):
    stopping = {"validation_share": 0, "epoch": "last", "threshold": "half"}
    text = searched(random() | {"kind": kind}, stopping=stopping, folds=COHORT | {"num_folds": 1})
    (line,) = problems(tmp_path, text)
    assert f"{kind} needs validation patients" in line
    assert problems(tmp_path, searched(random(), stopping=stopping)) == []


@pytest.mark.parametrize(
    "folds",
    [
        {"kind": "stratified", "num_folds": 2},
        {"kind": "leave_one_out", "column": "site", "values": ["a", "b"]},
        {"kind": "given", "num_folds": 2, "repetitions": 2},
    ],
)
def test_optuna_never_hears_of_patients_that_another_fold_holds_out(tmp_path, folds):
    text = searched(random() | {"kind": "optuna"}, folds=folds)
    (line,) = problems(tmp_path, text)
    assert "arms.score.search.kind: found optuna with folds of kind " + folds["kind"] in line
    assert problems(tmp_path, searched(random() | {"kind": "asha"}, folds=folds)) == []
    assert problems(tmp_path, searched(random() | {"kind": "optuna"}, folds=COHORT)) == []


def test_a_key_is_in_the_grid_or_in_the_search(tmp_path):
    text = searched(random())
    text["arms"]["score"]["grid"] = {"losses.score.weight": [1, 2]}
    (line,) = problems(tmp_path, text)
    assert "grid.losses.score.weight: searched already" in line


def test_the_reader_hears_which_settings_cannot_share_a_pack(tmp_path):
    space = {**WEIGHT, "optim.lr": {"low": 0.1, "high": 1}, "head.dropout": {"low": 0, "high": 0.5}}
    (warning,) = read(tmp_path, searched(random(space=space))).warnings
    assert "head.dropout: trials that differ in it cannot share a pack" in warning


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(samples=st.integers(1, 6), folds=st.integers(2, 3), seeds=st.integers(1, 3))
def test_an_expansion_counts_settings_folds_and_seeds(tmp_path, samples, folds, seeds):
    text = searched(
        random(samples=samples), seeds=seeds, folds={"kind": "stratified", "num_folds": folds}
    )
    rows = spec.expand(read(tmp_path, text))
    assert len(rows) == 2 * (1 + samples) * folds * seeds
    assert len({row.config for row in rows}) == len(rows)
