"""What was measured, on which machine and with which code: one JSON file, written as it goes."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "ray", "submitit", "numpy", "pandas", "pyarrow", "h5py")
ROOT = Path(__file__).parents[2]


class Record:
    """Measurements by figure, system and repeat.

    Measurements of other code, settings or another machine are not mixed with new ones: the file is
    begun anew, and the old one stays beside it with the suffix `.old`.

    Args:
        path: the file.
        settings: what the figures depend on.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.head = {"commit": commit(), "machine": machine(), "settings": settings}
        self.rows: list[dict[str, Any]] = []
        self.resumed = self._resume()

    def _resume(self) -> bool:
        try:
            known = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return False
        if {name: known.get(name) for name in self.head} != json.loads(json.dumps(self.head)):
            self.path.replace(self.path.with_suffix(".json.old"))
            return False
        self.rows = known["rows"]
        return True

    def get(self, figure: str, name: str, repeat: int = 0) -> dict[str, Any] | None:
        """Return a measurement, if there is one."""
        for row in self.rows:
            if (row["figure"], row["name"], row["repeat"]) == (figure, name, repeat):
                values: dict[str, Any] = row["values"]
                return values
        return None

    def all(self, figure: str, name: str) -> list[dict[str, Any]]:
        """Return all repeats of a measurement."""
        rows = [row for row in self.rows if (row["figure"], row["name"]) == (figure, name)]
        return [row["values"] for row in sorted(rows, key=lambda row: row["repeat"])]

    def once(
        self, figure: str, name: str, repeat: int, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return a measurement, which is made where it is missing, and keep it."""
        known = self.get(figure, name, repeat)
        if known is not None:
            return known
        values = work()
        load = os.getloadavg()[0]
        self.rows.append({
            "figure": figure, "name": name, "repeat": repeat, "values": values,
            "time": datetime.now(UTC).isoformat(timespec="seconds"), "load_1min": round(load, 2),
        })  # fmt: skip
        self._write()
        return values

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".json.half")
        half.write_text(json.dumps({**self.head, "rows": self.rows}, indent=1) + "\n")
        half.replace(self.path)


def commit() -> str:
    """Name the code that is measured; with changes, where there are any beside results."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!results")
    return git("rev-parse", "HEAD")[:12] + ("+changes" if changed else "")


def machine() -> dict[str, Any]:
    """Describe the machine and the versions."""
    model = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
