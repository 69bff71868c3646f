"""File systems: texts of the kernel and of quota programs, and renames tried for real."""

import os
from pathlib import Path

import pytest

from cluster import storage
from cluster.storage import FileSystem, Quota

MOUNTS = """\
22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:26 / /home rw,nosuid shared:2 - nfs4 files:/home rw,vers=4.2
32 22 0:27 / /lustre/my\\040work rw - lustre 10.0.0.1@o2ib:/work rw
33 22 0:28 / /home/local rw - tmpfs tmpfs rw,size=1g
34 22 0:29 / /home/local rw - xfs /dev/sdb rw
35 22 0:30 cut short
"""
WORK = FileSystem(
    kind="lustre", mount="/lustre/work", source="10.0.0.1:/work", free_bytes=1, free_files=None
)


@pytest.mark.parametrize(
    ("path", "kind", "mount"),
    [
        ("/", "ext4", "/"),
        ("/homework", "ext4", "/"),
        ("/home/me/results", "nfs4", "/home"),
        ("/lustre/my work/x", "lustre", "/lustre/my work"),
        ("/home/local", "xfs", "/home/local"),
    ],
)
def test_a_path_lies_on_the_longest_and_last_mount(path: str, kind: str, mount: str) -> None:
    assert storage.find_mount(MOUNTS, path)[:2] == (kind, mount)


def test_a_path_that_no_mount_holds_is_of_an_unknown_kind() -> None:
    assert storage.find_mount("", "/x") == ("unknown", "", "")


@pytest.mark.parametrize(
    ("kind", "shared"), [("nfs4", True), ("gpfs", True), ("ext4", False), ("fuse.odd", None)]
)
def test_what_several_machines_mount_is_known_by_its_kind(kind: str, shared: bool | None) -> None:
    system = FileSystem(kind=kind, mount="/", source="x", free_bytes=0, free_files=None)
    assert system.shared is shared


def test_this_folder_lies_on_some_file_system(tmp_path: Path) -> None:
    system = storage.file_system(tmp_path)
    assert str(tmp_path).startswith(system.mount)
    assert system.free_bytes > 0
    assert storage.existing(tmp_path / "not" / "there") == tmp_path


def test_renames_are_seen_whole_by_another_process_and_leave_nothing(tmp_path: Path) -> None:
    tried = storage.try_renames(tmp_path)
    assert tried.wrong == 0
    assert tried.reads > 0
    assert tried.seen_s is not None
    assert list(tmp_path.iterdir()) == []


def test_writes_that_are_not_renamed_are_seen_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement can fail: it would notice a file system whose renames are not atomic."""

    def in_place(path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        with path.open("w") as file:
            for part in range(0, len(text), 8):
                file.write(text[part : part + 8])
                file.flush()
                os.sched_yield()

    monkeypatch.setattr(storage, "_write", in_place)
    assert storage.try_renames(tmp_path).wrong > 0


def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(OSError):
        storage.try_renames(Path("/proc"))


@pytest.mark.parametrize(
    "said",
    [
        "/lustre/work 2048 3072 4096 - 12 20 30 -\n",
        "/lustre/work\n      2048* 3072 4096 6d23h [12] 20 30 -\n",
        "Disk quotas for user me (uid 7):\n Filesystem\n /lustre/work 2048 3072 4096 0 12 20 30 0",
    ],
)
def test_quotas_are_read_as_their_programs_print_them(said: str) -> None:
    assert storage.find_quota(said, place="/lustre/work") == Quota(
        used_bytes=2048 * 1024, most_bytes=4096 * 1024, used_files=12, most_files=30
    )


@pytest.mark.parametrize("said", ["", "none", "/other 1 2 3 - 4 5 6 -", "/lustre/work none"])
def test_a_quota_that_is_not_told_is_unknown(said: str) -> None:
    assert storage.find_quota(said, place="/lustre/work") is None


def test_no_limit_is_none() -> None:
    found = storage.find_quota("/home 5 0 0 - 7 0 0 -", place="/home")
    assert found is not None
    assert (found.most_bytes, found.most_files) == (None, None)


def test_lustre_is_asked_with_its_own_program_even_where_the_quota_is_exceeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "lfs"
    program.write_text('#!/bin/sh\necho "/lustre/work 9* 5 5 7d 1 0 0 -"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = storage.quota(WORK)
    assert found is not None
    assert found.used_bytes > (found.most_bytes or 0)
    program.unlink()
    assert storage.quota(WORK) is None
