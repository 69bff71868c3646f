"""Results folders that were damaged: the file is named, and nothing of them is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.folder import Folder
from tests.bad_inputs import command, inputs

Change = Callable[[Path], object]
NAN = float("nan")
COMMANDS = ("status", "logs", "cancel", "aggregate", "resume")


def segment(folder: Path) -> Path:
    return sorted((folder / "segments").iterdir())[0]


def journal(folder: Path) -> Path:
    return sorted((folder / "events").glob("*.jsonl"))[0]


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")


def event(**fields: object) -> bytes:
    return json.dumps({"time": "2026-01-01T00:00:00.000000+00:00", **fields}).encode() + b"\n"


NO_SWEEP: dict[str, Change] = {
    "missing": shutil.rmtree,
    "a file": a_file,
    "foreign": foreign,
    "without a plan": lambda folder: (folder / "plan.parquet").unlink(),
    "without events": lambda folder: shutil.rmtree(folder / "events"),
    "a dangling link": lambda folder: (shutil.rmtree(folder), folder.symlink_to("nowhere")),
}

TABLES: dict[str, tuple[Change, str]] = {
    "an empty plan": (lambda f: (f / "plan.parquet").write_bytes(b""), "plan.parquet"),
    "a plan of text": (lambda f: (f / "plan.parquet").write_text("hello"), "plan.parquet"),
    "a plan cut short": (
        lambda f: (f / "plan.parquet").write_bytes((f / "plan.parquet").read_bytes()[:-9]),
        "plan.parquet"),
    "a plan without columns": (
        lambda f: rewrite(f / "plan.parquet", lambda table: table[["cell"]]), "plan.parquet"),
    "a plan without rows": (
        lambda f: rewrite(f / "plan.parquet", lambda table: table.head(0)), "plan.parquet"),
    "a configuration that is none": (
        lambda f: rewrite(f / "plan.parquet", lambda table: table.assign(config="{")),
        "plan.parquet"),
    "a segment without its tables": (
        lambda f: [path.unlink() for path in segment(f).iterdir()], "trials.parquet"),
    "trials cut short": (
        lambda f: (segment(f) / "trials.parquet").write_bytes(b"PAR1"), "trials.parquet"),
    "predictions of text": (
        lambda f: (segment(f) / "predictions.parquet").write_text("x"), "predictions.parquet"),
    "predictions without scores": (
        lambda f: rewrite(segment(f) / "predictions.parquet", lambda t: t.drop(columns="score")),
        "not finite"),
    "predictions without rows": (
        lambda f: rewrite(segment(f) / "predictions.parquet", lambda t: t.head(0)), "predictions"),
    "a score that is NaN": (
        lambda f: rewrite(segment(f) / "predictions.parquet", lambda t: t.assign(score=NAN)),
        "has a score that is not finite"),
    "scores as text": (
        lambda f: rewrite(segment(f) / "predictions.parquet", lambda t: t.assign(score="x")),
        "predictions.parquet"),
    "a scan predicted twice": (
        lambda f: rewrite(segment(f) / "predictions.parquet", lambda t: pd.concat([t, t])),
        "is predicted twice"),
    "a trial twice": (
        lambda f: rewrite(segment(f) / "trials.parquet", lambda t: pd.concat([t, t])),
        "has more than one result"),
}  # fmt: skip

SPECS: dict[str, tuple[bytes | None, int, str]] = {
    "missing": (None, command.SPEC_ERROR, "spec.yaml"),
    "empty": (b"", command.SPEC_ERROR, "spec.yaml:1: the file is empty"),
    "not YAML": (b"arms: [", command.SPEC_ERROR, "spec.yaml:1: not YAML"),
    "binary": (bytes(range(128, 256)), command.SPEC_ERROR, "spec.yaml: not UTF-8"),
    "edited wrongly": (b"name: small\nseeds: 0\n", command.SPEC_ERROR, "spec.yaml:2: seeds"),
}

HARMLESS: dict[str, Change] = {
    "a torn line": lambda f: journal(f).write_bytes(journal(f).read_bytes() + b'{"event": "acc'),
    "garbage": lambda f: append(journal(f), bytes(range(256)) + b"\n"),
    "an empty journal": lambda f: (f / "events" / "x.jsonl").write_bytes(b""),
    "a journal of numbers": lambda f: (f / "events" / "x.jsonl").write_bytes(b"1\n[2]\nnull\n"),
    "an event of a later version": lambda f: append(journal(f), event(event="invented", x=1)),
    "another file in segments": lambda f: (f / "segments" / "notes.txt").write_text("x"),
    "a segment that was never finished": lambda f: (f / "segments" / ".x-1-host-00").mkdir(),
    "a segment of other trials": lambda f: shutil.copytree(segment(f), f / "segments" / "abc-9"),
    "broken code.json": lambda f: (f / "code.json").write_text("{"),
    "code.json as a list": lambda f: (f / "code.json").write_text("[]"),
    "a plan with a later column": lambda f: rewrite(f / "plan.parquet", lambda t: t.assign(new=1)),
    "the folder as a link": lambda f: (f.rename(f.parent / "away"), f.symlink_to("away")),
}

BROKEN_EVENTS: dict[str, bytes] = {
    "accepted with text": event(event="accepted", pack="p", attempt="x", failed={}, seconds="long"),
    "an event that is a number": event(event=3),
    "an event with a list": event(event=["planned"]),
}

HALF_EVENTS: dict[str, bytes] = {
    "planned without fields": event(event="planned"),
    "planned with a number": event(event="planned", trials=3, cells=1, packs=7, retried=[]),
    "accepted without fields": event(event="accepted"),
    "failed without fields": event(event="failed"),
    "submitted without a job": event(event="submitted", role="pilot"),
    "a time that is a number": b'{"event": "held", "time": 5}\n',
    "a launch without a process": event(event="launching"),
    "an assignment without an attempt": event(event="assigned", pack="p"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("change", NO_SWEEP.values(), ids=NO_SWEEP)
def test_what_is_no_sweep_is_said_to_be_none(results: Path, change: Change, name: str) -> None:
    change(results / "small")
    before = command.tree(results)
    answer = command.sweep(name, "small", "--results", results, "--json")
    assert answer.code in (command.FOLDER_ERROR, command.SPEC_ERROR), answer
    assert "small" in answer.error and "Traceback" not in answer.error
    assert command.tree(results) == before


@pytest.mark.parametrize(("change", "says"), TABLES.values(), ids=TABLES)
def test_a_damaged_table_is_named_and_kept(results: Path, change: Change, says: str) -> None:
    change(results / "small")
    command.refused(
        results, "aggregate", "small", "--results", results,
        code=command.FOLDER_ERROR, says=[says],
    )  # fmt: skip


@pytest.mark.parametrize(("content", "code", "says"), SPECS.values(), ids=SPECS)
def test_a_stored_spec_that_was_spoilt_is_refused(
    results: Path, content: bytes | None, code: int, says: str
) -> None:
    path = results / "small" / "spec.yaml"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    command.refused(results, "resume", "small", "--results", results, code=code, says=[says])


def test_a_folder_that_was_renamed_is_not_resumed(results: Path) -> None:
    (results / "small").rename(results / "other")
    command.refused(
        results, "resume", "other", "--results", results,
        code=command.SPEC_ERROR, says=["the stored spec is of sweep 'small'"],
    )  # fmt: skip


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_does_no_harm_is_passed_over(results: Path, change: Change) -> None:
    change(results / "small")
    before = command.tree(results)
    answer = command.sweep("status", "small", "--results", results, "--json")
    assert answer.code == 0 and json.loads(answer.out)["done"] == 6, answer
    assert command.tree(results) == before
    assert command.sweep("aggregate", "small", "--results", results).code == 0


@pytest.mark.parametrize("line", BROKEN_EVENTS.values(), ids=BROKEN_EVENTS)
def test_an_event_that_cannot_be_is_no_bug_of_ours(results: Path, line: bytes) -> None:
    append(journal(results / "small"), line)
    before = command.tree(results / "small" / "segments")
    for name in ("status", "logs", "aggregate"):
        answer = command.sweep(name, "small", "--results", results, "--json")
        assert answer.code in (0, 1), answer
    assert command.tree(results / "small" / "segments") == before


@pytest.mark.parametrize("line", HALF_EVENTS.values(), ids=HALF_EVENTS)
def test_an_event_without_its_fields_is_no_bug_of_ours(results: Path, line: bytes) -> None:
    test_an_event_that_cannot_be_is_no_bug_of_ours(results, line)


def test_results_that_are_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    spec = inputs.write_spec(tmp_path)
    for arguments in (["launch", spec], ["status", "small"], ["aggregate", "small"]):
        command.refused(
            tmp_path, *arguments, "--results", tmp_path / "results",
            code=command.SPEC_ERROR, says=["results"],
        )  # fmt: skip


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "a\nb", "x" * 300, "small\\x"])
def test_a_name_that_is_no_sweep_is_refused(results: Path, name: str) -> None:
    before = command.tree(results)
    for each in COMMANDS:
        answer = command.sweep(each, "--results", results, "--json", "--", name)
        assert answer.code in (command.FOLDER_ERROR, command.SPEC_ERROR), (each, answer)
    assert command.tree(results) == before


def test_a_sweep_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("mine")
    with pytest.raises(OSError):
        Folder(tmp_path / "small").create()
    assert (tmp_path / "small").read_text() == "mine"
