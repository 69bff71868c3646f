"""Were the settings frozen before the reported seeds were used? Git says.

`settings.py` must be as it was committed, and its last commit older than the first reported cohort.
"""

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).with_name("settings.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """The commit that froze the settings.

    Args:
        digest: of the file.
        commit: short name.
        time: of the commit.
    """

    digest: str
    commit: str
    time: datetime


class ThawedError(Exception):
    """The settings are not frozen; the message says how it shows."""


def commit(file: Path = SETTINGS) -> str:
    """Name the commit that is checked out, "-dirty" if files differ; "not known" without git."""
    try:
        return _git(file, "describe", "--always", "--dirty", "--exclude", "*")
    except ThawedError:
        return "not known"


def digest(file: Path = SETTINGS) -> str:
    """Hash the settings."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def check(cohorts: Iterable[Mapping[str, Any]], file: Path = SETTINGS) -> Freeze:
    """Check that the settings were committed, as they are, before any of the cohorts began.

    Raises:
        ThawedError: They were not, or there is no git to ask.
    """
    if _git(file, "status", "--porcelain", "--", file.name):
        raise ThawedError(f"{file.name} differs from its commit: commit it before reported seeds")
    name, when = _git(file, "log", "-1", "--format=%h %cI", "--", file.name).split()
    time = datetime.fromisoformat(when)
    for each in cohorts:
        if datetime.fromisoformat(each["began"]) < time:
            raise ThawedError(
                f"{file.name} was committed at {when}, after cohort {each['world']} "
                f"{each['seed']} began at {each['began']}"
            )
    return Freeze(digest=digest(file), commit=name, time=time)


def _git(file: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ThawedError(f"git {words[0]}: {said.strip()}") from error
    return done.stdout.strip()
