import subprocess

import pytest

from orchestrator import provenance


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A program called git that does what the test writes."""

    def write(text):
        path = tmp_path / "git"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path))

    return write


def test_the_commit_and_the_versions_are_recorded():
    code = provenance.code()
    assert code["python"].startswith("3.") and "torch" in code
    known = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    if known.returncode == 0:
        files = ["git", "diff", "--name-only", code["commit"], "HEAD", "--", *provenance.PARTS]
        assert subprocess.run(files, capture_output=True, check=True).stdout == b""


def test_a_commit_of_something_else_is_no_other_code(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    def commit(name, text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        git("add", ".")
        git("commit", "-m", name)
        return provenance.code()["commit"]

    git("init")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "orchestrator" / "provenance.py"))
    first = commit("orchestrator/x.py", "1")
    assert len(first) == 40 and commit("sweeps/mine.yaml", "a: 1") == first
    assert commit("training/y.py", "1") != first


def test_clean_code_is_clean(git):
    git('case "$3" in rev-list) echo abc;; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("abc", True)


def test_changed_code_is_not_clean(git):
    git('case "$3" in rev-list) echo abc;; *) echo " M training/lanes.py";; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("abc", False)


@pytest.mark.parametrize("failing", ["rev-list", "status"])
def test_code_of_which_git_does_not_tell_is_unknown_and_not_clean(git, failing):
    git(f'case "$3" in {failing}) exit 128;; *) echo abc;; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("unknown", False)


def test_git_takes_no_locks(git):
    git('test "$GIT_OPTIONAL_LOCKS" = 0 || exit 1; case "$3" in rev-list) echo abc;; esac')
    assert provenance.code()["commit"] == "abc"
