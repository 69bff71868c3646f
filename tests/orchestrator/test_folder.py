import os

import pytest

from orchestrator.errors import SweepError
from orchestrator.folder import Folder, file_mode, folder_mode, write_file


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
def test_a_sweep_is_readable_by_its_owner_only_whatever_the_umask_is(tmp_path):
    folder = Folder(tmp_path / "results" / "small")
    folder.create()
    write_file(folder.spec, b"text")
    assert mode(folder.spec) == 0o600
    inside = [folder.root, *(path for path in folder.root.iterdir() if path.is_dir())]
    assert {mode(path) for path in inside} == {0o700} and len(inside) == 6


@pytest.mark.usefixtures("umask")
def test_a_shared_sweep_is_readable_by_the_group_but_for_its_secrets(tmp_path):
    folder = Folder(tmp_path / "small")
    folder.create("group")
    for path in (folder.root, folder.segments, folder.events, folder.logs):
        assert (mode(path), folder_mode(path), file_mode(path)) == (0o750, 0o750, 0o640)
    for path in (folder.pool, folder.checkpoints):
        assert (mode(path), folder_mode(path), file_mode(path)) == (0o700, 0o700, 0o600)
    write_file(folder.spec, b"text")
    write_file(folder.pool / "token", b"secret")
    assert (mode(folder.spec), mode(folder.pool / "token")) == (0o640, 0o600)


def test_a_sweep_can_be_shared_and_made_private_again(tmp_path):
    folder = Folder(tmp_path / "small")
    for share, expected in (("private", 0o700), ("group", 0o750), ("private", 0o700)):
        folder.create(share)
        assert mode(folder.root) == mode(folder.segments) == expected


def test_what_was_written_in_private_is_opened_with_the_sweep_but_for_its_secrets(tmp_path):
    folder = Folder(tmp_path / "small")
    folder.create()
    segment = folder.segments / "p-1"
    segment.mkdir(mode=0o700)
    opened = [folder.spec, folder.events / "w.jsonl", folder.logs / "w.log", segment / "t.parquet"]
    kept = [folder.pool / "token", folder.checkpoints / "p"]
    (folder.root / "away").symlink_to(folder.pool / "token")
    for path in (*opened, *kept):
        write_file(path, b"text")
    folder.create("group")
    assert {mode(path) for path in opened} == {0o640} and mode(segment) == 0o750
    assert {mode(path) for path in kept} == {0o600}


def test_a_file_is_replaced_in_one_step_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_file(path, b"one")
    write_file(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two" and mode(path) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_no_sweep_is_refused_with_the_sweeps_beside_it(tmp_path):
    known = Folder(tmp_path / "known")
    known.create()
    known.plan.touch()
    known.require()
    with pytest.raises(SweepError) as caught:
        Folder(tmp_path / "unknown").require()
    assert caught.value.hint == "sweeps here: known"
