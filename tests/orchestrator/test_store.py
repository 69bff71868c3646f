import errno

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from orchestrator import events, failures, files, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.events import Journal
from orchestrator.folder import Folder, write_file


def tables(*trials, value=0.5):
    frame = pd.DataFrame({"trial": list(trials), "state": "done"})
    return {
        "trials": frame,
        "curves": pd.DataFrame({"trial": list(trials), "epoch": 0, "value": value}),
        "predictions": pd.DataFrame({"trial": list(trials), "patient": "ö", "score": value}),
    }


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "with space 'n' quote" / "sweep")
    made.create()
    store.write_plan(made, pd.DataFrame({"trial": ["a", "b"]}))
    return made


def launched(folder, trials, packs):
    journal = Journal(folder, "launch")
    journal.write("planned", trials=trials, cells=1, packs=packs, retried=[])
    return journal


def test_a_segment_appears_whole_and_is_read_back(folder):
    launched(folder, ["a", "b"], {"p": ["a", "b"]})
    assert store.write_segment(folder, "p", 1, tables=tables("b", "a"), artefacts={})
    results = store.read_results(folder)
    assert list(results["trials"]["trial"]) == ["a", "b"]
    assert sorted(p.name for p in (folder.segments / "p-1").iterdir()) == [
        "curves.parquet", "predictions.parquet", "trials.parquet"
    ]  # fmt: skip


def test_the_same_attempt_twice_keeps_the_first(folder):
    launched(folder, ["a"], {"p": ["a"]})
    assert store.write_segment(folder, "p", 1, tables=tables("a", value=1.0), artefacts={})
    assert not store.write_segment(folder, "p", 1, tables=tables("a", value=2.0), artefacts={})
    assert store.read_results(folder)["predictions"]["score"].tolist() == [1.0]
    assert [p.name for p in folder.segments.iterdir()] == ["p-1"]


def test_a_failure_while_writing_leaves_nothing(folder):
    bad = tables("a") | {"predictions": pd.DataFrame({"trial": [object()]})}
    with pytest.raises(Exception, match="object"):
        store.write_segment(folder, "p", 1, tables=bad, artefacts={})
    assert list(folder.segments.iterdir()) == []


def test_only_the_accepted_attempt_of_a_trial_is_read(folder):
    journal = launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a", value=1.0), artefacts={})
    store.write_segment(folder, "p", 2, tables=tables("a", value=2.0), artefacts={})
    journal.write("accepted", pack="p", attempt=2, failed={}, seconds=1.0)
    assert store.read_results(folder)["predictions"]["score"].tolist() == [2.0]


def test_a_truncated_segment_is_named_with_a_way_out(folder):
    launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={})
    path = folder.segments / "p-1" / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"predictions\.parquet") as caught:
        store.read_results(folder)
    assert "resume" in caught.value.hint


def test_results_are_for_the_owner_only(folder):
    launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={"w": {}})
    for path in [folder.root, *folder.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_is_no_sweep_names_its_neighbours(folder):
    with pytest.raises(SweepError) as caught:
        Folder(folder.root.parent / "swep").require()
    assert "sweep" in caught.value.hint


def test_a_file_is_replaced_in_one_step(tmp_path):
    write_file(tmp_path / "f", b"one")
    write_file(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_segment_whose_driver_died_is_adopted_with_its_dead_lanes(folder):
    launched(folder, ["a", "b"], {"p": ["a", "b"]})
    made = tables("a", "b")
    made["trials"] = pd.DataFrame(
        {
            "trial": ["a", "b"], "state": ["done", "failed"], "seconds": 1.5,
            "failure": ["", "numeric: loss is nan at epoch 3"],
        }
    )  # fmt: skip
    store.write_segment(folder, "p", 1, tables=made, artefacts={})
    store.adopt(folder, Journal(folder, "launch"))
    state = events.progress(folder)
    assert state.done == ["a"] and state.failed == {"b": "numeric"} and state.seconds == 3.0
    assert state.unjudged == [] and state.late == []


def test_a_trial_that_fails_twice_has_one_row(folder):
    journal = launched(folder, ["a"], {"p": ["a"]})
    for attempt in (1, 2):
        dead = tables("a") | {"trials": pd.DataFrame({"trial": ["a"], "state": "failed"})}
        store.write_segment(folder, "p", attempt, tables=dead, artefacts={})
        journal.write("accepted", pack="p", attempt=attempt, failed={"a": "numeric"}, seconds=1.0)
    assert store.read_results(folder)["trials"]["state"].tolist() == ["failed"]


def test_damage_anywhere_in_a_counting_segment_is_found(folder):
    launched(folder, ["a", "b", "c"], {"p": ["a"], "q": ["b"], "r": ["c"]})
    many = tables("a") | {
        "predictions": pd.DataFrame({"trial": "a", "score": np.random.default_rng(0).random(4000)})
    }
    for pack, made in (("p", many), ("q", tables("b")), ("r", tables("c"))):
        store.write_segment(folder, pack, 1, tables=made, artefacts={})
    assert store.damaged(folder) == {}
    path = folder.segments / "p-1" / "predictions.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (folder.segments / "q-1" / "curves.parquet").unlink()
    found = store.damaged(folder)
    assert sorted(found) == ["p-1", "q-1"]
    assert "predictions.parquet" in found["p-1"] and "curves.parquet" in found["q-1"]


def test_a_segment_without_one_of_its_trials_is_damaged(folder):
    launched(folder, ["a", "b"], {"p": ["a", "b"]})
    store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={})
    assert "no rows of trial b" in store.damaged(folder)["p-1"]


def test_a_segment_that_does_not_count_may_be_damaged(folder):
    journal = launched(folder, ["a"], {"p": ["a"]})
    for attempt in (1, 2):
        store.write_segment(folder, "p", attempt, tables=tables("a"), artefacts={})
    journal.write("accepted", pack="p", attempt=2, failed={}, seconds=1.0)
    (folder.segments / "p-1" / "trials.parquet").write_bytes(b"")
    assert store.damaged(folder) == {}


def test_what_is_set_aside_counts_no_more_and_a_later_result_does(folder):
    journal = launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a", value=1.0), artefacts={})
    journal.write("accepted", pack="p", attempt=1, failed={}, seconds=1.0)
    store.set_aside(folder, ["p-1"])
    state = events.progress(folder)
    assert state.to_train == ["a"] and events.list_segments(folder) == []
    assert [path.name[:13] for path in folder.segments.iterdir()] == [".damaged-p-1-"]
    store.write_segment(folder, "p", 2, tables=tables("a", value=2.0), artefacts={})
    journal.write("accepted", pack="p", attempt=2, failed={}, seconds=1.0)
    assert store.read_results(folder)["predictions"]["score"].tolist() == [2.0]


def test_tables_of_the_first_version_without_checksums_are_read(folder):
    launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={})
    for path in (folder.segments / "p-1").iterdir():
        pd.read_parquet(path).to_parquet(path)
    assert store.damaged(folder) == {} and len(store.read_results(folder)["trials"]) == 1


def test_a_full_disk_while_writing_a_segment_is_told_by_its_class(folder, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    launched(folder, ["a"], {"p": ["a"]})
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError) as caught:
        store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={})
    assert failures.classify(caught.value).kind == "disk"
    assert list(folder.segments.iterdir()) == []


def test_a_segment_that_cannot_be_adopted_is_set_aside_and_the_others_are_adopted(folder, caplog):
    launched(folder, ["a", "b"], {"p": ["a"], "q": ["b"]})
    for pack, trial in (("p", "a"), ("q", "b")):
        made = tables(trial)
        made["trials"] = made["trials"].assign(seconds=1.0, failure="")
        store.write_segment(folder, pack, 1, tables=made, artefacts={})
    (folder.segments / "p-1" / "trials.parquet").write_bytes(b"torn")
    store.adopt(folder, Journal(folder, "launch"))
    state = events.progress(folder)
    assert (state.done, state.to_train, state.unjudged) == (["b"], ["a"], [])
    assert [path.name[:13] for path in folder.segments.glob(".*")] == [".damaged-p-1-"]
    assert "p-1" in caplog.text and "set aside" in caplog.text


def test_segments_of_tasks_with_one_score_and_with_several_are_joined():
    tables = [
        pa.table({"trial": ["b", "b"], "score": [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]}),
        pa.table({"trial": ["a", "c"], "score": [0.25, 0.75]}),
    ]
    found = files.join(tables, name="predictions", categories=())
    assert found["trial"].to_list() == list("abbc") and tables == []
    assert [list(each) for each in found["score"]] == [[0.25], [0.5, 1, 2], [3, 4, 5], [0.75]]


def test_a_segment_that_cannot_be_read_now_stays_where_it_is(folder):
    launched(folder, ["a"], {"p": ["a"]})
    store.write_segment(folder, "p", 1, tables=tables("a"), artefacts={})
    path = folder.segments / "p-1" / "trials.parquet"
    path.unlink()
    path.symlink_to(path)  # stands for a file system that does not answer
    for look in (lambda: store.adopt(folder, Journal(folder, "launch")),
                 lambda: store.damaged(folder)):  # fmt: skip
        with pytest.raises(StoreError, match=r"trials\.parquet: cannot be read") as caught:
            look()
        assert "try again" in caught.value.hint and "--retry damaged" not in caught.value.hint
    assert [path.name for path in folder.segments.iterdir()] == ["p-1"]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_segment_without_a_table_or_a_column_is_set_aside(folder, change):
    launched(folder, ["a", "b"], {"p": ["a"], "q": ["b"]})
    for pack, trial in (("p", "a"), ("q", "b")):
        store.write_segment(folder, pack, 1, tables=tables(trial), artefacts={})  # no seconds
    change(folder.segments / "q-1" / "trials.parquet")
    store.adopt(folder, Journal(folder, "launch"))
    state = events.progress(folder)
    assert (state.to_train, state.unjudged) == (["a", "b"], [])
