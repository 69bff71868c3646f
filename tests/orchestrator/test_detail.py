import json

import pytest

from orchestrator import detail, events
from tests.orchestrator.stories import Story

PACKS = {"p": ["aa", "ab"], "q": ["ba"], "r": ["ca"]}


@pytest.fixture
def story(tmp_path, monkeypatch):
    made = Story(tmp_path / "s", monkeypatch)
    made.plan(PACKS)
    return made


def tries(story, trial):
    told = events.read_events(story.folder)
    state = events.fold(told, events.list_segments(story.folder))
    return detail.attempts(told, state, trial)


def json_of(capsys, function, *arguments):
    capsys.readouterr()
    code = function(*arguments, mode="json")
    return code, json.loads(capsys.readouterr().out)


def test_every_attempt_at_a_trial_says_where_when_and_why(story):
    story.drive(0)
    story.assign(1, "p", 1, worker="w1", pilot="5_1", node="gpu07")
    story.fail(2, "p", "preempted", "pilot was preempted", 1)
    story.assign(3, "p", 2, worker="w2", pilot="5_2", node="gpu09")
    story.tell(4, "driver", "released", pack="p", attempt=2, worker="w2", reason="time limit")
    story.assign(5, "p", 3, worker="w2", pilot="5_3", node="gpu09")
    story.accept(9, "p", 3)
    found = [(t.attempt, t.node, t.outcome, t.message) for t in tries(story, "aa")]
    assert found == [
        (1, "gpu07", "preempted", "pilot was preempted"),
        (2, "gpu09", "given back", "time limit"),
        (3, "gpu09", "result", ""),
    ]


def test_an_attempt_whose_driver_died_and_a_late_segment_are_told(story):
    story.drive(0)
    story.assign(1, "p", 1)
    story.drive(2)
    story.assign(3, "p", 2)
    story.accept(4, "p", 2)
    (story.folder.segments / "p-1").mkdir()
    assert [t.outcome for t in tries(story, "ab")] == ["late: another result counts", "result"]
    story.assign(5, "q", 1)
    story.drive(6)
    assert [t.outcome for t in tries(story, "ba")] == ["its driver ended"]


def test_a_result_whose_segment_was_removed_says_so(story):
    story.accept(1, "q")
    (story.folder.segments / "q-1").rmdir()
    assert [t.outcome for t in tries(story, "ba")] == ["result, but its segment is gone"]


def test_one_trial_shows_its_cell_state_and_segment(story, capsys):
    story.assign(1, "p")
    story.accept(2, "p", failed={"ab": "numeric"})
    code, value = json_of(capsys, detail.trial, story.folder, "aa")
    assert code == 0 and value["state"] == "done"
    assert value["cells"] == [{
        "cell": 0, "trial": "aa", "encoder": "tiny", "arm": "erm", "losses.embedding.weight": "",
        "fold": 0, "seed": 0,
    }]  # fmt: skip
    assert value["segment"].endswith("segments/p-1")
    _, value = json_of(capsys, detail.trial, story.folder, "ab")
    assert value["state"] == "failed (numeric)" and value["segment"] is None
    assert value["attempts"][0]["outcome"] == "lane ended: numeric"
    detail.trial(story.folder, "aa", mode="text")
    assert "arm=erm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tell", "text"),
    [
        (lambda _: None, "waiting"),
        (lambda story: story.assign(1, "q"), "training on w1"),
        (lambda story: story.fail(1, "q", "lost", "m"), "waiting, after 1 attempt"),
        (lambda story: story.fail(1, "q", "bug", "m", final=True), "failed (bug)"),
        (lambda story: story.plan({"p": ["aa"]}, minute=2), "not in the plan"),
    ],
)
def test_a_trial_is_in_one_state(story, capsys, tell, text):
    tell(story)
    assert json_of(capsys, detail.trial, story.folder, "ba")[1]["state"] == text


def test_failed_trials_are_listed_in_three_ways(story, capsys):
    story.fail(1, "p", "data", "scan 'x' has no tiles", final=True, node="gpu07")
    assert detail.failed(story.folder, mode="text") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trial\tClass\tPack\tAttempts\tNode\tMessage"
    assert lines[1] == "aa\tdata\tp\t0\tgpu07\tscan 'x' has no tiles"
    detail.failed(story.folder, mode="quiet")
    assert capsys.readouterr().out == "aa\nab\n"
    assert json_of(capsys, detail.failed, story.folder)[1]["failed"][0]["class"] == "data"


def test_without_failed_trials_the_list_is_empty_and_fine(story, capsys):
    assert detail.failed(story.folder, mode="quiet") == 0
    assert capsys.readouterr().out == ""
