import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.science import frozen


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.py"
    git(tmp_path, "init", "-q")
    file.write_text("WEIGHT = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "freeze")
    return file


def cohort(begun: datetime) -> dict[str, object]:
    return {"world": "base", "seed": 1, "began": begun.isoformat(timespec="seconds")}


def test_committed_settings_are_frozen(settings: Path) -> None:
    later = datetime.now(UTC) + timedelta(seconds=5)
    found = frozen.check([cohort(later)], settings)
    assert found.time <= later
    assert found.digest == frozen.digest(settings)
    assert frozen.commit(settings) == found.commit


def test_changed_settings_are_refused_until_committed(settings: Path) -> None:
    settings.write_text("WEIGHT = 2\n")
    with pytest.raises(frozen.ThawedError, match="differs from its commit"):
        frozen.check([], settings)
    assert frozen.commit(settings).endswith("-dirty")
    git(settings.parent, "commit", "-qam", "freeze again")
    assert frozen.check([], settings).digest == frozen.digest(settings)


def test_settings_that_were_never_committed_are_refused(settings: Path) -> None:
    other = settings.with_name("other.py")
    other.write_text("")
    with pytest.raises(frozen.ThawedError, match="differs from its commit"):
        frozen.check([], other)


def test_cohorts_that_began_before_the_freeze_are_refused(settings: Path) -> None:
    early = datetime.now(UTC) - timedelta(minutes=1)
    with pytest.raises(frozen.ThawedError, match="after cohort base 1 began"):
        frozen.check([cohort(datetime.now(UTC) + timedelta(seconds=5)), cohort(early)], settings)


def test_without_git_nothing_is_frozen(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(frozen.ThawedError, match="git"):
        frozen.check([], settings)
    assert frozen.commit(settings) == "not known"
