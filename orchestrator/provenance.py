"""Which code trains: commit, changed files and versions, recorded with every launch and trial."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "ray", "submitit", "h5py", "scikit-learn")


def code() -> dict[str, Any]:
    """Describe the code that runs: commit, changed files, versions."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "training", "orchestrator", "cluster")
    versions = {}
    for package in ("sweep", *PACKAGES):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit or "unknown",
        "clean": not changed,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions,
    }


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
