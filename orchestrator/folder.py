"""Paths inside `results/<sweep>/`, and writing a file in one step."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import SweepError


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths inside `results/<sweep>/`."""

    root: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.root.name

    @property
    def spec(self) -> Path:
        """The spec as launched."""
        return self.root / "spec.yaml"

    @property
    def plan(self) -> Path:
        """One row per cell and trial, with every trial's configuration."""
        return self.root / "plan.parquet"

    @property
    def code(self) -> Path:
        """Commit and versions at the last launch."""
        return self.root / "code.json"

    @property
    def segments(self) -> Path:
        """Results of finished packs."""
        return self.root / "segments"

    @property
    def events(self) -> Path:
        """What happened, one file per writer."""
        return self.root / "events"

    @property
    def checkpoints(self) -> Path:
        """Last good state of packs in training."""
        return self.root / "checkpoints"

    @property
    def tables(self) -> Path:
        """Written by `aggregate` only; safe to delete."""
        return self.root / "tables"

    @property
    def pool(self) -> Path:
        """Token, address of the Ray head, and submitit's folder; 0700."""
        return self.root / "pool"

    def create(self) -> None:
        """Make the folder, readable by its owner only."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.segments, self.events, self.checkpoints, self.pool):
            path.mkdir(exist_ok=True, mode=0o700)

    def require(self) -> None:
        """Refuse a folder that is not a sweep.

        Raises:
            SweepError: There is no launched sweep here.
        """
        if self.plan.is_file() and self.events.is_dir():
            return
        siblings = sorted(p.parent.name for p in self.root.parent.glob("*/plan.parquet"))
        known = f"sweeps here: {', '.join(siblings)}" if siblings else "no sweep was launched here"
        raise SweepError(f"{self.root}: no sweep of this name", hint=known)


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file in one step, readable by its owner only unless `mode` says more."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
