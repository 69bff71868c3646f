"""Which code trains: commit, changed files and versions, recorded with every launch and trial."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from cluster.machine import PACKAGES

PARTS = ("training", "orchestrator", "cluster")
"""Folders with the code."""


def code() -> dict[str, Any]:
    """Describe the code that runs: commit, changed files, versions.

    The commit is the last that changed the code: a spec or a page may be committed while a sweep
    goes on. Code of which git does not tell both, is of an unknown commit and not clean.
    """
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-list", "-1", "HEAD", "--", *PARTS)
    changed = _git(root, "status", "--porcelain", "--", *PARTS)
    known = bool(commit) and changed is not None
    versions = {}
    for package in ("sweep", *PACKAGES):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit if commit and known else "unknown",
        "clean": known and not changed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
    }


def _git(root: Path, *words: str) -> str | None:
    """Ask git without taking its locks; None where it does not answer."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True, text=True, timeout=10, check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
