from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import plan, spec, trial
from orchestrator.spec import Row
from orchestrator.trial import Trial
from tests.orchestrator.specs import read, small
from tests.orchestrator.test_trial import FULL, SMALL
from training import simulate
from training.config import AttentionHead, Optim, TrialConfig, lane_key
from training.data import folds, index
from training.errors import DataError
from training.simulation_config import SimulatedEncoder, Simulation

COHORT = Simulation(
    dev_patients=24,
    test_patients=8,
    min_tiles=4,
    max_tiles=6,
    encoders={"uni": SimulatedEncoder(dim=8), "virchow2": SimulatedEncoder(dim=8)},
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort") / "data"
    simulate.write(COHORT, root)
    return index.read(root)


def rows_of(folder, **changes):
    return spec.expand(read(folder, small(**changes)))


def make(rows, **arguments):
    return plan.make(rows, **{"dataset": None, "lanes_max": 8, **arguments})


def make_trial(**changes):
    fingerprint = changes.pop("fingerprint", "f")
    return trial.make(SMALL.model_copy(update=changes), fingerprint)


def ids(packs):
    return [[item.id for item in pack.trials] for pack in packs]


settings_of_trials = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 5),
        st.sampled_from([0.1, 0.2]),
        st.sampled_from([8, 16]),
        st.sampled_from(["f", "g"]),
    ),
    max_size=60,
    unique=True,
)


def drawn(settings):
    """Make the trials; outside the strategy, since checked calls use Python's random numbers."""
    return [
        make_trial(
            fold=fold,
            seed=seed,
            optim=Optim(lr=lr),
            head=AttentionHead(kind="attention", attention_dim=width),
            fingerprint=fingerprint,
        )
        for fold, seed, lr, width, fingerprint in settings
    ]


@settings(deadline=None)
@given(settings=settings_of_trials, lanes_max=st.integers(1, 9), packs_min=st.integers(1, 30))
def test_packs_hold_every_trial_once_in_order_and_in_families(settings, lanes_max, packs_min):
    items = drawn(settings)
    packs = plan.pack(items, lanes_max=lanes_max, packs_min=packs_min)
    assert Counter(i for pack in ids(packs) for i in pack) == Counter(i.id for i in items)
    position = {item.id: number for number, item in enumerate(items)}
    sizes: dict[tuple[str, str], list[int]] = {}
    last: dict[tuple[str, str], int] = {}
    for pack in packs:
        assert 1 <= len(pack.trials) <= lanes_max
        families = {(lane_key(item.config), item.fingerprint) for item in pack.trials}
        assert len(families) == 1
        family = families.pop()
        places = [position[item.id] for item in pack.trials]
        assert places == sorted(places)
        assert last.get(family, -1) < places[0]
        last[family] = places[-1]
        sizes.setdefault(family, []).append(len(pack.trials))
        assert {item.config.encoder for item in pack.trials} == {pack.encoder}
    assert all(max(found) - min(found) <= 1 for found in sizes.values())
    assert len({pack.id for pack in packs}) == len(packs)
    assert plan.pack(items, lanes_max=lanes_max, packs_min=packs_min) == packs
    starts = [position[pack.trials[0].id] for pack in packs]
    firsts = {family: min(position[i.id] for i in items if key(i) == family) for family in sizes}
    order = [firsts[key(pack.trials[0])] for pack in packs]
    assert order == sorted(order)
    assert len(starts) == len(set(starts))
    if len(packs) < packs_min:
        assert all(size <= 2 for found in sizes.values() for size in found)


def key(item: Trial) -> tuple[str, str]:
    return lane_key(item.config), item.fingerprint


def test_seeds_and_rates_are_lanes_but_folds_and_data_are_not():
    lanes = [make_trial(seed=seed, optim=Optim(lr=lr)) for seed in (0, 1) for lr in (0.1, 0.2)]
    other = [make_trial(fold=1), make_trial(fingerprint="g")]
    found = plan.pack([*lanes, *other], lanes_max=10)
    assert ids(found) == [[item.id for item in lanes], [other[0].id], [other[1].id]]


def test_the_id_of_a_pack_is_that_of_its_trials():
    two = [make_trial(seed=0), make_trial(seed=1)]
    one = plan.pack(two, lanes_max=2)[0]
    assert len(one.id) == 12
    assert plan.pack(two[::-1], lanes_max=2)[0].id != one.id
    assert plan.pack(two[:1], lanes_max=2)[0].id != one.id


def test_packs_get_smaller_until_every_worker_has_one_but_not_below_two():
    items = [make_trial(seed=seed) for seed in range(12)]
    for packs_min, expected in {
        1: [12],
        2: [6, 6],
        5: [3, 3, 3, 3],
        6: [2] * 6,
        99: [2] * 6,
    }.items():
        found = plan.pack(items, lanes_max=50, packs_min=packs_min)
        if packs_min == 5:
            assert len(found) >= 5
        else:
            assert [len(pack.trials) for pack in found] == expected


def test_a_family_is_split_evenly():
    items = [make_trial(seed=seed) for seed in range(10)]
    found = plan.pack(items, lanes_max=4)
    assert sorted(len(pack.trials) for pack in found) == [3, 3, 4]


def test_no_trials_make_no_packs_and_no_lanes_are_refused():
    assert plan.pack([], lanes_max=4) == []
    with pytest.raises(ValueError, match="lanes_max is 0"):
        plan.pack([], lanes_max=0)


def test_a_plan_without_data_names_the_missing_encoders_and_still_packs(tmp_path):
    found = make(rows_of(tmp_path))
    assert found.missing == {"uni": 18, "virchow2": 18}
    assert len(found.trial_ids) == found.num_to_train == 36
    assert found.num_cells == 6
    assert {item.fingerprint for item in found.trials} == {""}
    assert found.done == frozenset() and found.shared == 0


def test_a_plan_with_data_fingerprints_every_split_once(tmp_path, dataset, monkeypatch):
    calls = []
    real = folds.identify
    monkeypatch.setattr(folds, "identify", lambda d, c: calls.append(c) or real(d, c))
    found = make(rows_of(tmp_path), dataset=dataset)
    assert found.missing == {}
    assert len(calls) == 2 * 3
    for item in found.trials:
        assert item.fingerprint == real(dataset, item.config)[0]
        assert item.id == trial.trial_id(item.config, item.fingerprint)


def test_one_missing_encoder_does_not_hide_the_other(tmp_path, dataset):
    found = make(rows_of(tmp_path, encoders=["uni", "gone"]), dataset=dataset)
    assert found.missing == {"gone": 18}
    assert {(t.config.encoder, t.fingerprint == "") for t in found.trials} == {
        ("uni", False),
        ("gone", True),
    }


def test_problems_of_all_splits_come_as_one_error(tmp_path, dataset):
    arms = {
        "a": {"views": "all"},
        "b": {"views": "all", "folds": {"kind": "given", "num_folds": 3}},
        "c": {"views": "all", "folds": {"num_folds": 30}},
    }
    with pytest.raises(DataError) as caught:
        make(rows_of(tmp_path, arms=arms), dataset=dataset)
    assert "folds.parquet" in caught.value.message
    assert "30 stratified folds" in caught.value.message


def test_an_unseen_scanner_of_one_arm_that_does_not_exist_is_a_problem(tmp_path, dataset):
    arms = {
        "a": {"views": "routine", "unseen_scanners": [COHORT.scanners[0]]},
        "b": {"views": "routine", "unseen_scanners": [f"{COHORT.scanners[0]}x"]},
    }
    with pytest.raises(DataError, match=f"did you mean '{COHORT.scanners[0]}'"):
        make(rows_of(tmp_path, arms=arms), dataset=dataset)


@pytest.mark.parametrize("first", [True, False])
def test_a_rule_of_one_arm_on_pairs_that_do_not_exist_is_a_problem(tmp_path, dataset, first):
    arms = {
        "plain": {"views": "routine"},
        "rule": {"views": "routine", "stopping": {"epoch": "within_margin"}},
    }
    if first:
        arms = dict(reversed(arms.items()))
    share = {"validation_share": 0.6}
    make(rows_of(tmp_path, arms=arms, stopping=share), dataset=dataset)
    away = {"unseen_scanners": list(COHORT.scanners[1:]), "stopping": share}
    with pytest.raises(DataError, match="two validation slides with scans on two seen scanners"):
        make(rows_of(tmp_path, arms=arms, **away), dataset=dataset)
    make(rows_of(tmp_path, arms={"plain": arms["plain"]}, **away), dataset=dataset)


def test_what_is_done_or_given_up_is_not_packed(tmp_path, dataset):
    rows = rows_of(tmp_path)
    everything = make(rows, dataset=dataset)
    done, failed = set(everything.trial_ids[:5]), set(everything.trial_ids[4:7])
    found = make(rows, dataset=dataset, done={*done, "foreign"}, failed={*failed, "other"})
    assert found.done == done
    assert found.failed == failed - done
    packed = [i for pack in ids(found.packs) for i in pack]
    assert sorted(packed) == sorted(set(everything.trial_ids) - done - failed)
    assert found.trial_ids == everything.trial_ids
    nothing = make(rows, dataset=dataset, done=everything.trial_ids)
    assert nothing.packs == () and nothing.num_to_train == 0


def test_cells_with_equal_configurations_share_their_trials(tmp_path, dataset):
    arms = {
        "erm": {"views": "routine"},
        "same": {"views": "routine", "priority": 1},
        "other": {"views": "all"},
    }
    rows = rows_of(tmp_path, arms=arms, encoders=["uni"])
    found = make(rows, dataset=dataset)
    assert found.num_cells == 3
    assert len(found.rows) == 18
    assert len(found.trials) == len(set(found.trial_ids)) == 12
    assert found.shared == 6
    assert [t.id for t in found.row_trials[:6]] == [t.id for t in found.row_trials[6:12]]
    packed = [i for pack in ids(found.packs) for i in pack]
    assert sorted(packed) == sorted(found.trial_ids)


def test_arms_of_a_higher_priority_are_packed_first(tmp_path):
    arms = {
        "a": {"views": "routine"},
        "b": {"views": "all", "priority": 5},
        "c": {"views": "all", "draw_seed": 1, "priority": -1},
    }
    found = make(rows_of(tmp_path, arms=arms, encoders=["uni"]))
    arm_of = {item.id: row.arm for row, item in zip(found.rows, found.row_trials, strict=True)}
    assert [arm_of[pack.trials[0].id] for pack in found.packs] == [*"bbbaaaccc"]


def test_urgent_trials_do_not_wait_for_lanes_that_are_not(tmp_path):
    arms = {
        "plain": {"views": "all", "priority": 1},
        "score": {"views": "all", "losses": {"a": {"kind": "score"}}},
        "coral": {"views": "all", "losses": {"a": {"kind": "coral"}}},
    }
    found = make(rows_of(tmp_path, arms=arms, encoders=["uni"]), lanes_max=16)
    arm_of = {item.id: row.arm for row, item in zip(found.rows, found.row_trials, strict=True)}
    packs = [sorted({arm_of[item.id] for item in pack.trials}) for pack in found.packs]
    assert packs == [["plain"]] * 3 + [["coral", "score"]] * 3


def test_trials_of_several_losses_share_a_pack_with_equal_losses_side_by_side(tmp_path):
    arms = {
        "plain": {"views": "all"},
        "score": {"views": "all", "losses": {"a": {"kind": "score", "weight": 1.0}}},
        "coral": {"views": "all", "losses": {"a": {"kind": "coral", "weight": 1.0}}},
        "more": {"views": "all", "losses": {"a": {"kind": "score", "weight": 2.0}}},
    }
    found = make(rows_of(tmp_path, arms=arms, encoders=["uni"]), lanes_max=7)
    arm_of = {item.id: row.arm for row, item in zip(found.rows, found.row_trials, strict=True)}
    assert [len(pack.trials) for pack in found.packs] == [4, 4] * 3
    for pack in found.packs:
        assert len({item.config.fold for item in pack.trials}) == 1
    arms_in = [[arm_of[item.id] for item in pack.trials] for pack in found.packs[:2]]
    assert arms_in == [["plain"] * 2 + ["score"] * 2, ["more"] * 2 + ["coral"] * 2]
    kinds = [found.kind(pack) for pack in found.packs]
    assert kinds[:2] * 3 == kinds and kinds[0] != kinds[1]


def test_equal_calls_give_equal_plans(tmp_path, dataset):
    rows = rows_of(tmp_path)
    assert make(rows, dataset=dataset) == make(rows, dataset=dataset)


def test_the_frame_has_a_row_per_cell_fold_and_seed_with_axes_as_json(tmp_path):
    found = make(rows_of(tmp_path, grid={"head.embed_dims": [[8], [16]]}))
    frame = found.frame()
    assert list(frame.columns) == [
        "cell",
        "trial",
        "encoder",
        "arm",
        "head.embed_dims",
        "losses.score.weight",
        "fold",
        "seed",
        "config",
        "fingerprint",
        "priority",
        "pack_family",
    ]
    assert len(frame) == len(found.rows)
    first, last = frame.iloc[0], frame.iloc[-1]
    assert (first["head.embed_dims"], first["losses.score.weight"]) == ('"[8]"', "")
    assert (last["head.embed_dims"], last["losses.score.weight"]) == ('"[16]"', "1.0")
    config = TrialConfig.model_validate_json(last["config"])
    assert config == found.row_trials[-1].config
    assert last["pack_family"] == lane_key(config)
    assert trial.trial_id(config, last["fingerprint"]) == last["trial"]


def test_an_empty_plan_has_an_empty_frame():
    found = make([])
    assert found.num_cells == 0 and len(found.frame()) == 0


def test_10000_trials_are_named_and_packed():
    rows = [
        Row(
            cell=0, encoder="virchow2", arm="a", axes={}, fold=number % 50, seed=number, priority=0,
            config=FULL.model_copy(update={"fold": number % 50, "seed": number}),
        )
        for number in range(10_000)
    ]  # fmt: skip
    found = make(rows, lanes_max=50)
    assert len(set(found.trial_ids)) == 10_000
    assert found.num_to_train == 10_000


def test_the_priority_of_an_encoder_is_added_to_that_of_the_arm(tmp_path):
    arms = small()["arms"]
    arms["score"] |= {"priority": 1}
    made = make(rows_of(tmp_path, encoders={"uni": None, "virchow2": {"priority": 2}}, arms=arms))
    first = [(item.encoder, item.trials[0].config.views) for item in made.packs]
    assert list(dict.fromkeys(first)) == [
        ("virchow2", "all"), ("virchow2", "routine"), ("uni", "all"), ("uni", "routine"),
    ]  # fmt: skip


def test_the_priority_of_an_encoder_changes_no_trial(tmp_path):
    plain = make(rows_of(tmp_path, encoders={"uni": None, "virchow2": None}))
    urgent = make(rows_of(tmp_path, encoders={"uni": None, "virchow2": {"priority": 2}}))
    assert set(plain.trial_ids) == set(urgent.trial_ids)


def test_trials_in_packs_of_a_running_driver_are_not_packed_again(tmp_path):
    rows = rows_of(tmp_path)
    first = make(rows).packs[0]
    busy = {item.id for item in first.trials}
    made = make(rows, elsewhere=busy)
    assert made.elsewhere == busy
    assert busy.isdisjoint(item.id for pack in made.packs for item in pack.trials)
    assert made.num_to_train + len(busy) == len(made.trials)


def test_a_probe_is_the_first_pack_of_each_unknown_kind(tmp_path):
    made = make(rows_of(tmp_path), lanes_max=2)
    kinds = dict.fromkeys(map(made.kind, made.packs))
    assert len(made.packs) > len(kinds) > 1
    probed = plan.probe(made, ())
    assert list(map(made.kind, probed.packs)) == list(kinds)
    assert probed.packs[0] == made.packs[0] and probed.trials == made.trials
    first, *others = kinds
    assert list(map(made.kind, plan.probe(made, (first,)).packs)) == others


@settings(deadline=None)
@given(data=st.data(), drawn_settings=settings_of_trials, sizes=st.tuples(*[st.integers(1, 9)] * 3))
def test_begun_packs_stay_and_every_trial_is_in_one_pack(data, drawn_settings, sizes):
    priority = data.draw(st.lists(st.integers(0, 2), min_size=60, max_size=60))
    rows = [
        Row(
            cell=0, encoder="uni", arm="a", axes={}, fold=item.config.fold, seed=item.config.seed,
            priority=level, config=item.config,
        )
        for item, level in zip(drawn(drawn_settings), priority, strict=False)
    ]  # fmt: skip
    before = make(rows, lanes_max=sizes[0])
    some = st.sets(st.sampled_from(before.packs)) if before.packs else st.just(set())
    chosen = sorted(data.draw(some), key=lambda pack: pack.id)
    begun = {pack.id: [item.id for item in pack.trials] for pack in chosen}
    done = set(data.draw(st.sets(st.sampled_from(before.trial_ids)))) if rows else set()
    wanted = {
        name for name, trials in begun.items()
        if done.isdisjoint(trials) and len(trials) <= sizes[1]
    }  # fmt: skip
    stale = {"gone": ["x"], "empty": [], "twice": before.trial_ids[:1] * 2}
    arguments = {"done": done, "lanes_max": sizes[1], "packs_min": sizes[2]}
    made = make(rows, begun={**stale, **begun}, **arguments)
    packed = Counter(i for pack in ids(made.packs) for i in pack)
    assert packed == Counter(set(before.trial_ids) - done)
    found = {pack.id: [item.id for item in pack.trials] for pack in made.packs}
    assert {name: begun[name] for name in wanted}.items() <= found.items()
    assert all(1 <= len(pack.trials) <= sizes[1] for pack in made.packs)
    urgency = {item.id: 0 for item in made.trials}
    for row, item in zip(made.rows, made.row_trials, strict=True):
        urgency[item.id] = max(urgency[item.id], row.priority)
    places = [
        (-max(urgency[i.id] for i in pack.trials), pack.id not in wanted) for pack in made.packs
    ]
    assert not wanted or places == sorted(places)
    assert made == make(rows, begun={**stale, **begun}, **arguments)


def test_trials_that_are_not_lanes_of_one_pass_are_no_begun_pack(tmp_path):
    rows = rows_of(tmp_path)
    plain = make(rows)
    first, last = plain.trial_ids[0], plain.trial_ids[-1]
    assert make(rows, begun={"mixed": [first, last]}) == plain


def test_a_trial_of_two_begun_packs_stays_in_the_first(tmp_path):
    rows = rows_of(tmp_path)
    one, two, *_ = (item.id for item in make(rows).packs[0].trials)
    made = make(rows, begun={"p": [one, two], "q": [two]})
    assert [pack.id for pack in made.packs].count("p") == 1
    assert "q" not in {pack.id for pack in made.packs}
    assert sorted(i for pack in ids(made.packs) for i in pack) == sorted(made.trial_ids)


ASHA = {"kind": "asha", "samples": 3, "space": {"optim.lr": {"low": 0.01, "high": 0.1}}}


def test_a_retired_trial_is_done_for_its_search_and_missing_for_all_else(tmp_path):
    arms = {"a": {"views": "routine", "search": ASHA}}
    rows = rows_of(tmp_path, arms=arms)
    every = make(rows).trial_ids
    brackets = {item.id: row.bracket for row, item in zip(rows, make(rows).row_trials, strict=True)}
    retired = {one: brackets[one] for one in every[:5]}
    found = make(rows, done=every, retired=retired)
    assert found.packs == () and found.done == set(every)
    arms = {"a": {"views": "routine", "search": {**ASHA, "kind": "random"}}}
    again = make(rows_of(tmp_path, arms=arms), done=every, retired=retired)
    assert again.trial_ids == every
    assert {item.id for one in again.packs for item in one.trials} == set(every[:5])


@pytest.mark.parametrize("edit", [{"grace": 2}, {"reduction": 2}])
def test_a_trial_that_was_retired_trains_again_where_the_search_has_other_rungs(tmp_path, edit):
    rows = rows_of(tmp_path, arms={"a": {"views": "routine", "search": ASHA}})
    found = make(rows)
    every = found.trial_ids
    retired = {i.id: r.bracket for r, i in zip(rows, found.row_trials, strict=True)}
    edited = rows_of(tmp_path, arms={"a": {"views": "routine", "search": {**ASHA, **edit}}})
    again = make(edited, done=every, retired=dict(list(retired.items())[:5]))
    assert again.trial_ids == every
    assert {item.id for one in again.packs for item in one.trials} == set(every[:5])


def test_a_trial_that_a_plain_cell_shares_with_a_search_is_in_no_bracket(tmp_path):
    rates = sorted({row.config.optim.lr for row in rows_of(
        tmp_path, arms={"a": {"views": "routine", "search": ASHA}})})  # fmt: skip
    arms = {
        "a": {"views": "routine", "search": ASHA},
        "b": {"views": "routine", "optim": {"lr": rates[0]}},
    }
    frame = make(rows_of(tmp_path, arms=arms)).frame()
    shared = set(frame.loc[frame["arm"] == "b", "trial"])
    assert shared and not frame.loc[frame["trial"].isin(shared), "bracket"].any()
    assert frame.loc[~frame["trial"].isin(shared), "bracket"].all()
    assert frame.groupby("arm")["search"].unique().str[0].to_dict() == {"a": "asha", "b": ""}


def test_a_plan_without_searches_has_no_column_for_them(tmp_path):
    assert not {"search", "bracket"} & set(make(rows_of(tmp_path)).frame().columns)
