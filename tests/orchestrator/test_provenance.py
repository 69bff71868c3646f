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
        assert code["commit"] == known.stdout.strip()


def test_clean_code_is_clean(git):
    git('case "$3" in rev-parse) echo abc;; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("abc", True)


def test_changed_code_is_not_clean(git):
    git('case "$3" in rev-parse) echo abc;; *) echo " M training/lanes.py";; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("abc", False)


@pytest.mark.parametrize("failing", ["rev-parse", "status"])
def test_code_of_which_git_does_not_tell_is_unknown_and_not_clean(git, failing):
    git(f'case "$3" in {failing}) exit 128;; *) echo abc;; esac')
    assert (provenance.code()["commit"], provenance.code()["clean"]) == ("unknown", False)


def test_git_takes_no_locks(git):
    git('test "$GIT_OPTIONAL_LOCKS" = 0 || exit 1; case "$3" in rev-parse) echo abc;; esac')
    assert provenance.code()["commit"] == "abc"
