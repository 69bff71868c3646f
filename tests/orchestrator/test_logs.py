import json

import pytest

from orchestrator import events, logs
from orchestrator.errors import StoreError, SweepError
from tests.orchestrator.stories import Story

PACKS = {"p": ["aa", "ab"], "q": ["ba"], "r": ["ca"]}
TRACE = 'Traceback\n  File "loss.py", line 3, in loss\nValueError: {}'


@pytest.fixture
def story(tmp_path, monkeypatch):
    made = Story(tmp_path / "s", monkeypatch)
    made.plan(PACKS)
    return made


def grouped(story, *, given_up=False):
    told = events.read_events(story.folder)
    state = events.fold(told, events.list_segments(story.folder))
    return logs.groups(told, state, given_up=given_up)


def test_failures_with_one_traceback_are_one_group_whatever_their_message(story):
    for minute, pack in enumerate(PACKS):
        story.assign(minute, pack, node=f"gpu{minute}")
        story.fail(minute, pack, "bug", f"ValueError: {minute}", trace=TRACE.format(minute),
                   signature="s1", final=pack != "q")  # fmt: skip
    story.fail(5, "q", "lost", "vanished", 2, signature="s2")
    found = grouped(story)
    assert [(one.kind, one.of) for one in found] == [("bug", ["p-1", "q-1", "r-1"]),
                                                     ("lost", ["q-2"])]  # fmt: skip
    assert list(found[0].nodes) == ["gpu0", "gpu1", "gpu2"] and "loss.py" in found[0].trace


def test_old_events_without_a_signature_are_grouped_by_their_frames(story):
    for minute, pack in enumerate(PACKS):
        story.fail(minute, pack, "bug", str(minute), trace=TRACE.format(minute), signature="")
    assert [len(one.of) for one in grouped(story)] == [3]


def test_failed_leaves_out_what_was_trained_later(story):
    story.fail(1, "p", "lost", "vanished")
    story.accept(2, "p", 2, failed={"ab": "numeric"})
    story.fail(3, "q", "data", "no tiles", final=True)
    kinds = {one.kind: one.of for one in grouped(story, given_up=True)}
    assert kinds["numeric"] == ["ab"] and kinds["data"] == ["q-1"]
    story.accept(4, "q", 2)
    assert "data" not in {one.kind for one in grouped(story, given_up=True)}


def test_logs_show_one_whole_trace_a_group_and_where_files_are(story, capsys):
    story.fail(1, "p", "bug", "ValueError: x", trace=TRACE.format("\x1b[2Jx"), node="gpu07")
    (story.folder.logs / "local-1.log").write_text("x\n")
    assert logs.failures(story.folder, given_up=False, mode="text") == 0
    text = capsys.readouterr().out
    assert "1 × error in the code, 1 pack on gpu07: p-1" in text and 'File "loss.py"' in text
    assert "\x1b" not in text and str(story.folder.logs) in text
    logs.failures(story.folder, given_up=False, mode="json")
    value = json.loads(capsys.readouterr().out)
    assert value["failures"][0]["count"] == 1 and value["logs"][0].endswith("local-1.log")


def test_pilots_that_ended_before_they_joined_show_the_end_of_their_log(story, capsys):
    story.pilot(1, "5_1", "started")
    story.tell(2, "driver", "gone", job="5_1", state="FAILED", seconds=3, node="gpu07")
    folder = story.folder.pool / "submitit"
    folder.mkdir()
    (folder / "5_1_0_log.out").write_text("starting\nmodule: command not found\n")
    logs.failures(story.folder, given_up=False, mode="text")
    text = capsys.readouterr().out
    assert "pilot 5_1 ended before it joined: FAILED" in text and "not found" in text


def test_a_trial_shows_its_attempts_its_trace_and_the_lines_that_name_its_pack(story, capsys):
    story.assign(1, "p", pilot="5_1", node="gpu07")
    story.fail(2, "p", "bug", "boom", trace=TRACE.format("boom"), pilot="5_1", node="gpu07")
    lines = ["2026 INFO pack=p attempt=1 epoch=1", "2026 INFO pack=pp attempt=1", "noise"]
    (story.folder.logs / "5_1-77.log").write_text("\n".join(lines))
    (story.folder.logs / "5_2-78.log").write_text("2026 INFO pack=p attempt=9\n")
    assert logs.of_trial(story.folder, "ab", mode="json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["lines"] == lines[:1] and value["attempts"][0]["pilot"] == "5_1"
    logs.of_trial(story.folder, "ab", mode="text")
    text = capsys.readouterr().out
    assert "boom" in text and "epoch=1" in text and "loss.py" in text
    with pytest.raises(SweepError):
        logs.of_trial(story.folder, "a", mode="text")


def test_the_driver_log_is_that_of_the_last_driver_and_only_its_end(story, capsys):
    for job in ("7", "9"):
        story.tell(1, "launch", "submitted", role="driver", job=job)
    folder = story.folder.pool / "submitit"
    folder.mkdir()
    with pytest.raises(StoreError, match="not there yet"):
        logs.driver(story.folder, mode="text")
    (folder / "7_0_log.out").write_text("old\n")
    (folder / "9_0_log.out").write_text("".join(f"line {n}\n" for n in range(1000)))
    logs.driver(story.folder, mode="text")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"line {n}" for n in range(800, 1000)]


def test_a_local_sweep_has_no_driver_log(story):
    with pytest.raises(StoreError, match="a local sweep has none"):
        logs.driver(story.folder, mode="text")
