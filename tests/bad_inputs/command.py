"""Runs `sweep` inside this process, and says what a refusal must look like.

A refused command ends with the exit code that was agreed, names the place, shows no traceback,
submits nothing and leaves every file below the watched folder as it was.
"""

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from orchestrator import cli
from orchestrator.folder import Folder

SPEC_ERROR, FOLDER_ERROR, CLUSTER_ERROR = 2, 1, 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The problems, one a line, and the hint, of a command that was given --json."""
        told = json.loads(self.out)["error"]
        return "\n".join([*told["problems"], told["hint"]])


def sweep(*arguments: object) -> Answer:
    """Run a command to its end; training or submitting anything is an error of the test."""
    out, err = io.StringIO(), io.StringIO()
    words = ["sweep", *map(str, arguments)]
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.object(Folder, "create", _started),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            cli.main()
    except SystemExit as end:
        return Answer(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError("the command line did not end by itself")


def refused(folder: Path, *arguments: object, code: int, says: Sequence[str]) -> str:
    """Assert that a command is refused, in text and as JSON; return its problems.

    Args:
        folder: nothing below it may change.
        arguments: of the command.
        code: the exit code.
        says: texts that the error must contain.
    """
    before = tree(folder)
    answer = sweep(*arguments, "--json")
    assert answer.code == code, answer
    error = answer.error
    for text in says:
        assert text in error, f"{text!r} is not in:\n{error}"
    plain = sweep(*arguments)
    assert plain.code == code and not plain.out, plain
    for told in (error, plain.err):
        assert "Traceback" not in told and "our bug" not in told
    assert "error: " in plain.err
    assert max(map(len, plain.err.splitlines())) < 2000, "nobody reads this line"
    assert tree(folder) == before, "a refused command changed files"
    return error


def tree(root: Path) -> dict[str, bytes | str]:
    """Describe every folder, link and file below a folder, contents included."""
    found: dict[str, bytes | str] = {}
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = Path(folder) / name
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            else:
                found[str(path)] = path.read_bytes() if path.is_file() else "not a file"
    return found


def _started(*_: object, **__: object) -> list[str]:
    raise AssertionError("the sweep was started")
