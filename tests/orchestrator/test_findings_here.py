"""What is said of this machine and of folders."""

import json
from pathlib import Path

import pytest

from cluster import machine, storage
from cluster.storage import FileSystem, Quota, Renames
from orchestrator import findings_here
from orchestrator.folder import Folder


def of_folder(results, *, nodes_elsewhere=False):
    found = findings_here.of_folder(results, nodes_elsewhere=nodes_elsewhere)
    return {finding.topic: finding for finding in found}


def on(monkeypatch, kind, *, free=10**12, files=10**7):
    system = FileSystem(kind=kind, mount="/m", source="s", free_bytes=free, free_files=files)
    monkeypatch.setattr(storage, "file_system", lambda _: system)


def test_a_local_folder_is_fine_and_stays_as_it_was(tmp_path):
    found = of_folder(tmp_path / "results")
    assert found["file system"].level == found["renames"].level == "ok"
    assert f"{tmp_path} is on" in found["file system"].found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "elsewhere", "level"),
    [
        ("nfs4", True, "ok"),
        ("lustre", True, "ok"),
        ("ext4", False, "ok"),
        ("ext4", True, "problem"),
        ("tmpfs", False, "note"),
        ("tmpfs", True, "problem"),
        ("fuse.odd", True, "note"),
    ],
)
def test_a_folder_that_other_nodes_do_not_see_is_a_problem(
    kind, elsewhere, level, tmp_path, monkeypatch
):
    on(monkeypatch, kind)
    assert of_folder(tmp_path, nodes_elsewhere=elsewhere)["file system"].level == level


@pytest.mark.parametrize(("free", "files"), [(10**6, 10**7), (10**12, 10), (10**12, 0)])
def test_little_room_is_a_problem(free, files, tmp_path, monkeypatch):
    on(monkeypatch, "ext4", free=free, files=files)
    assert of_folder(tmp_path)["room"].level == "problem"


def test_room_without_a_count_of_files_is_fine(tmp_path, monkeypatch):
    on(monkeypatch, "nfs4", files=None)
    assert "files unlimited" in of_folder(tmp_path)["room"].found


@pytest.mark.parametrize(
    ("tried", "level"),
    [
        (Renames(reads=9, wrong=0, write_s=0.01, seen_s=0.1), "ok"),
        (Renames(reads=9, wrong=1, write_s=0.01, seen_s=0.1), "problem"),
        (Renames(reads=9, wrong=0, write_s=0.01, seen_s=None), "problem"),
    ],
)
def test_renames_that_are_seen_half_done_are_a_problem(tried, level, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "try_renames", lambda _: tried)
    assert of_folder(tmp_path)["renames"].level == level


def test_a_folder_that_cannot_be_written_is_a_problem():
    assert of_folder(Path("/proc/sys"))["renames"].level == "problem"


@pytest.mark.parametrize(
    ("quota", "level", "said"),
    [
        (None, "ok", "unknown"),
        (Quota(used_bytes=1, most_bytes=None, used_files=1, most_files=None), "ok", "none set"),
        (Quota(used_bytes=1, most_bytes=9 << 30, used_files=1, most_files=None), "ok", "0 of 9 GB"),
        (Quota(used_bytes=1, most_bytes=9, used_files=99, most_files=100), "problem", "99 of 100"),
    ],
)
def test_a_quota_counts_where_it_is_known(quota, level, said, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "quota", lambda _: quota)
    found = of_folder(tmp_path)["quota"]
    assert (found.level, said in found.found) == (level, True)


def test_versions_that_differ_from_the_last_launch_are_noted(tmp_path):
    assert "nothing launched yet" in findings_here.of_packages(tmp_path).found
    (tmp_path / "small").mkdir()
    recorded = tmp_path / "small" / "code.json"
    same = machine.versions()
    recorded.write_text(json.dumps(same))
    assert findings_here.of_packages(tmp_path).level == "ok"
    recorded.write_text(json.dumps({**same, "torch": "1.0", "commit": "abc"}))
    found = findings_here.of_packages(tmp_path)
    assert (found.level, "sweep small had torch 1.0 then" in found.found) == ("note", True)
    recorded.write_text("{")
    assert findings_here.of_packages(tmp_path).level == "ok"


def test_what_pilots_found_on_their_nodes_is_compared_with_what_is_here(tmp_path):
    assert findings_here.of_nodes(tmp_path) is None
    folder = Folder(tmp_path / "small")
    folder.events.mkdir(parents=True)
    started = {
        "event": "started", "job": "7", "node": "n1", "gpus": 1, "size": "normal",
        "walltime_s": 60, "time": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    journal = folder.events / "pilot-7.jsonl"
    journal.write_text(json.dumps(started) + "\n")
    assert findings_here.of_nodes(tmp_path) is None, "pilots of earlier versions told nothing"
    same = machine.versions()
    journal.write_text(json.dumps({**started, "versions": same}) + "\n")
    found = findings_here.of_nodes(tmp_path)
    assert found is not None and (found.level, found.found) == ("ok", "sweep small: as here on n1")
    other = {**started, "node": "n2", "versions": {**same, "torch": "1.0"}}
    journal.write_text(journal.read_text() + json.dumps(other) + "\n")
    found = findings_here.of_nodes(tmp_path)
    assert found is not None and found.level == "note"
    assert f"torch 1.0 on n2, {same['torch']} here" in found.found


def test_ray_without_a_folder_or_a_port_is_a_problem(monkeypatch):
    assert {one.level for one in findings_here.of_ray(nodes_elsewhere=False)} == {"ok"}
    bad = machine.RayGround(
        address="127.0.0.1", port=None, temporary_free_bytes=None, socket_chars=200
    )
    monkeypatch.setattr(machine, "ray_ground", lambda: bad)
    assert [one.level for one in findings_here.of_ray(nodes_elsewhere=True)] == [
        "note",
        "problem",
        "problem",
    ]


def test_a_python_that_other_nodes_do_not_see_is_noted(monkeypatch):
    on(monkeypatch, "ext4")
    assert findings_here.of_environment(nodes_elsewhere=True).level == "note"
    assert findings_here.of_environment(nodes_elsewhere=False).level == "ok"


def test_this_machine_says_its_cores():
    assert "cores" in findings_here.of_machine().found
