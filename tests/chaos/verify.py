"""What must hold after a chaotic sweep."""

import csv
import io
from collections import Counter
from pathlib import Path

from tests.chaos import ledger
from tests.chaos.conduct import ChaosError
from tests.chaos.user import User

PRICED = ("seconds", "gpu_hours", "cost", "price", "time")
"""Columns of tables that may differ: what was paid, and when."""


def verify(root: Path, user: User, reference: Path) -> dict[str, int]:
    """Check a sweep that ended, by its files and by its commands.

    Args:
        root: the sweep's folder.
        user: asks the commands.
        reference: the tables of the undisturbed sweep.

    Returns:
        Counts of segments, of late ones and of attempts.

    Raises:
        ChaosError: A promise is broken.
    """
    known = ledger.read(root)
    _exactly_once(root, known)
    _commands_agree(known, user)
    left = sorted(path.name for path in (root / "checkpoints").iterdir())
    _require(not left, f"checkpoints are left: {left}")
    hidden = [p.name for p in (root / "segments").iterdir() if p.name.startswith(".")]
    hidden = [name for name in hidden if not name.startswith(".damaged-")]
    _require(not hidden, f"temporary folders are left in segments/: {hidden}")
    done = user.sweep("aggregate", user.name, "--quiet")
    _require(done.returncode == 0, f"aggregate: {done.returncode} {done.stderr}")
    for path in sorted(reference.glob("*.csv")):
        ours, theirs = table(root / "tables" / path.name), table(path)
        _require(ours == theirs, f"{root / 'tables' / path.name} differs from {path}")
    attempts = Counter(event["pack"] for event in known.of("assigned"))
    return {
        "segments": len(known.segments),
        "late": len(known.segments) - len(set(known.winner.values())),
        "packs": len(attempts),
        "attempts": sum(attempts.values()),
    }


def table(path: Path) -> bytes:
    """Read a table without its cost and time columns."""
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    kept = [i for i, name in enumerate(rows[0]) if not any(word in name for word in PRICED)]
    text = io.StringIO()
    csv.writer(text).writerows([[row[i] for i in kept] for row in rows])
    return text.getvalue().encode()


def _exactly_once(root: Path, known: ledger.Ledger) -> None:
    """Each trial has one result that counts; copies of it are the same to the bit."""
    _require(not known.missing, f"{len(known.missing)} trials have neither result nor reason")
    found = ledger.results(root)
    for trial in known.trials:
        if trial in known.reason:
            continue
        copies = found.get(trial, {})
        _require(known.winner[trial] in copies, f"trial {trial}: its segment has no such result")
        _require(len(set(copies.values())) == 1, f"trial {trial}: copies differ: {list(copies)}")
    accepted = Counter(
        trial
        for event in known.of("accepted")
        for trial in known.packs.get(event["pack"], ())
        if known.winner.get(trial) == (event["pack"], event["attempt"])
    )
    twice = [trial for trial, count in accepted.items() if count > 1]
    _require(not twice, f"accepted twice: {twice}")


def _commands_agree(known: ledger.Ledger, user: User) -> None:
    told = user.status()
    ours = (len(known.trials), len(known.winner.keys() & set(known.trials)), len(known.reason))
    theirs = (told.get("trials"), told.get("done"), told.get("failed"))
    _require(ours == theirs, f"(trials, done, failed): status says {theirs}, the files {ours}")
    _require(not told["running"] and not told["jobs"], f"something runs: {told}")
    checked = user.sweep("status", user.name, "--check", "--json")
    _require(checked.returncode in (0, 2), f"status --check: {checked.stdout} {checked.stderr}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ChaosError(message)
