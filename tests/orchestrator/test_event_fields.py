import pytest

from orchestrator import events
from orchestrator.event_fields import is_whole
from orchestrator.events import Journal
from orchestrator.folder import Folder

NOW = "2026-11-23T12:00:00.000000+00:00"
PLANNED = {"trials": ["t"], "cells": 1, "packs": {"p": ["t"]}, "retried": []}


def event(name, **fields):
    return {"event": name, "time": NOW, **fields}


@pytest.mark.parametrize(
    "good",
    [
        event("invented", x=1), event("held"), event("planned", **PLANNED),
        event("accepted", pack="p", attempt=1, failed={}, seconds=1),
        event("split", pack="p", into={"q": ["t"], "r": []}), event("cancelled", trials=[]),
    ],
)  # fmt: skip
def test_what_a_journal_wrote_is_an_event(good):
    assert is_whole(good)


@pytest.mark.parametrize(
    "bad",
    [
        None, 1, [], {}, "planned", {"event": "held"}, event(3), event(["planned"]),
        {"event": "held", "time": 5}, {"event": "held", "time": "noon"},
        {"event": "held", "time": "2026-11-23T12:00:00"},
        event("planned"), event("planned", **PLANNED | {"packs": ["p"]}),
        event("planned", **PLANNED | {"packs": {"p": "t"}}),
        event("planned", **PLANNED | {"trials": [1]}),
        event("planned", **PLANNED | {"retried": [[]]}),
        event("accepted", pack="p", attempt="x", failed={}, seconds=1.0),
        event("accepted", pack="p", attempt=1, failed={}, seconds="long"),
        event("split", pack="p", into={"q": [None]}), event("assigned", pack="p", attempt=1),
        event("submitted", role="pilot"), event("launching", host="h"), event("failed"),
    ],
)  # fmt: skip
def test_what_lacks_a_needed_field_is_none(bad):
    assert not is_whole(bad)


def test_every_event_that_is_read_back_is_the_one_that_was_written(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    journal = Journal(folder, "launch")
    journal.write("planned", **PLANNED)
    (read,) = events.read_events(folder)
    assert {key: read[key] for key in PLANNED} == PLANNED


def test_a_line_nested_without_end_is_no_event():
    assert events.parse("[" * 100_000, "w") is None
