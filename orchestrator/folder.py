"""Paths inside `results/<sweep>/`, and writing a file in one step."""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.errors import PlanError, SweepError

Share = Literal["private", "group"]


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
    def folds(self) -> Path:
        """Who trained, validated and was held out: one row per patient, encoder and fold."""
        return self.root / "folds.parquet"

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
    def predictions(self) -> Path:
        """What `predict` says of other data."""
        return self.root / "predictions"

    @property
    def pool(self) -> Path:
        """Token, address of the Ray head, and submitit's folder; 0700."""
        return self.root / "pool"

    @property
    def logs(self) -> Path:
        """What worker processes log, one file each."""
        return self.root / "logs"

    def create(self, share: Share = "private") -> None:
        """Make the folder, or give it to other readers.

        Who may read a folder may read what is written into it (`file_mode`). Checkpoints and `pool`
        are for the owner only, always.

        Args:
            share: who may read the results: the owner, or the owner's group too.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o750 if share == "group" else 0o700
        for path in (self.root, self.segments, self.events, self.logs):
            _make(path, mode)
        for path in (self.checkpoints, self.pool):
            _make(path, 0o700)
        if share == "group" and any(map(_is_closed, self.events.glob("*.jsonl"))):
            self._share()

    def _share(self) -> None:
        """Let the group read what was written while the sweep was private; the events last."""
        kept = (self.checkpoints, self.pool, self.events)
        for path in (*(each for each in self.root.iterdir() if each not in kept), self.events):
            _open(path)

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

    def require_plain(self, what: str = "results", *, option: str = "--results") -> None:
        """Refuse a path of which batch scripts would make another one.

        In the names of log files SLURM and submitit replace `%` and what follows, SLURM takes away
        backslashes, and the end of a line ends an option.

        Raises:
            PlanError: It cannot lie here.
        """
        path = str(self.root.resolve())
        if path.isprintable() and set("%\\").isdisjoint(path):
            return
        raise PlanError(
            f"{what} may not lie here: {path!r}; SLURM takes no %, backslash or line break in "
            "the path of a log file",
            hint=f"give another folder: {option} FOLDER",
        )


def file_mode(parent: Path) -> int:
    """Return the permissions of a new file here: as many readers as the folder has, none others."""
    return 0o640 if parent.stat().st_mode & 0o040 else 0o600


def folder_mode(parent: Path) -> int:
    """Return the permissions of a new folder here: as many readers as its parent has."""
    return 0o750 if parent.stat().st_mode & 0o040 else 0o700


def write_file(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace a file in one step, for those who may read its folder unless `mode` says who."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, file_mode(path.parent) if mode is None else mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_closed(path: Path) -> bool:
    return not path.stat().st_mode & 0o040


def _open(path: Path) -> None:
    """Let the group read a file, or a folder and what is in it."""
    inside = [
        Path(place, name) for place, folders, names in os.walk(path) for name in (*folders, *names)
    ]
    for each in (path, *inside):
        with contextlib.suppress(FileNotFoundError):  # a driver that runs renames what is whole
            if not each.is_symlink():
                each.chmod(each.stat().st_mode & 0o7777 | (0o050 if each.is_dir() else 0o040))


def _make(path: Path, mode: int) -> None:
    """Make a folder, or set who may read the one that is there; bits for new files' group stay."""
    path.mkdir(exist_ok=True, mode=0o700)
    kept = path.stat().st_mode & 0o7000
    path.chmod(kept | mode)
