import pytest

from orchestrator import events, lookup
from orchestrator.errors import StoreError, SweepError
from tests.orchestrator.stories import Story

TRIALS = [f"{number:02d}a" for number in range(30)]


@pytest.fixture
def story(tmp_path, monkeypatch):
    made = Story(tmp_path / "s", monkeypatch)
    made.plan({"p": TRIALS})
    return made


def state(story):
    return events.progress(story.folder)


@pytest.mark.parametrize(
    ("conditions", "number"),
    [
        (["arm=erm"], 15),
        (["seed=3"], 6),
        (["fold=1"], 10),
        (["losses.embedding.weight=0.1"], 15),
        (["losses.embedding.weight=1e-1"], 15),
        (["losses.embedding.weight="], 15),
        (["arm=erm", "seed=2"], 3),
        (["encoder=tiny"], 30),
        (['encoder="tiny"'], 30),
    ],
)
def test_conditions_choose_the_trials_that_meet_them_all(story, conditions, number):
    match = lookup.where(story.folder, conditions)
    assert len(match.trials) == number and match.shared == 0
    assert list(match.trials) == [trial for trial in TRIALS if trial in match.trials]


def test_an_unknown_key_offers_the_nearest_and_lists_all(story):
    with pytest.raises(SweepError, match="did you mean 'seed'") as caught:
        lookup.where(story.folder, ["sed=3"])
    assert "encoder, arm, losses.embedding.weight, fold, seed" in caught.value.hint
    assert "config" not in caught.value.hint


def test_values_that_no_cell_has_are_an_error_that_lists_them(story):
    with pytest.raises(SweepError, match="no trial") as caught:
        lookup.where(story.folder, ["arm=sgd", "seed=3"])
    assert caught.value.hint == "arm is one of erm, info; seed is one of 0, 1, 2, 3, 4"


def test_a_trial_that_another_cell_uses_too_is_left_out(story):
    import pandas as pd

    plan = pd.read_parquet(story.folder.plan)
    plan.loc[1, "trial"] = TRIALS[0]  # a cell of arm info shares the first trial of arm erm
    plan.to_parquet(story.folder.plan)
    match = lookup.where(story.folder, ["arm=erm"])
    assert match.shared == 1 and TRIALS[0] not in match.trials and len(match.trials) == 14


def test_a_plan_that_cannot_be_read_is_an_error_with_its_path(story):
    story.folder.plan.write_bytes(b"PAR1 not")
    with pytest.raises(StoreError, match=r"plan\.parquet: cannot be read"):
        lookup.where(story.folder, ["arm=erm"])


def test_the_start_of_an_id_is_enough(story):
    assert lookup.find(state(story), "07") == "07a"
    assert lookup.find(state(story), "29a") == "29a"


def test_an_ambiguous_start_names_candidates(story):
    with pytest.raises(SweepError, match=r"10 trials begin with '1'.*10a, 11a.*…"):
        lookup.find(state(story), "1")


@pytest.mark.parametrize("start", ["", "zz", "07ab"])
def test_no_such_trial_is_an_error(story, start):
    with pytest.raises(SweepError):
        lookup.find(state(story), start)


def test_failed_trials_come_with_their_last_failure(story):
    story.plan({"p": ["a", "b"], "q": ["c"], "r": ["d"]})
    story.assign(1, "p", node="gpu07")
    story.fail(1, "p", "lost", "vanished")
    story.assign(2, "p", 2, node="gpu09")
    story.fail(2, "p", "bug", "boom", 2, final=True, node="gpu09")
    story.assign(3, "q", node="gpu11")
    story.accept(3, "q", failed={"c": "numeric"})
    story.tell(4, "control", "cancelled", trials=["d"])
    told = events.read_events(story.folder)
    rows = lookup.failed(told, state(story))
    assert [(r.trial, r.kind, r.message, r.pack, r.attempts, r.node) for r in rows] == [
        ("a", "bug", "boom", "p", 2, "gpu09"),
        ("b", "bug", "boom", "p", 2, "gpu09"),
        ("d", "cancelled", "cancelled by sweep cancel --where", "", 0, ""),
        ("c", "numeric", "the loss of this lane was not finite", "q", 1, "gpu11"),
    ]
