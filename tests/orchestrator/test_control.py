from orchestrator import control, events
from orchestrator.folder import Folder


def told(folder):
    return [
        {key: value for key, value in event.items() if key not in ("time", "writer")}
        for event in events.read_events(folder)
    ]


def test_what_commands_ask_is_written_for_the_driver(tmp_path):
    folder = Folder(tmp_path / "small")
    folder.create()
    control.hold(folder)
    control.cancel_trials(folder, {"b", "a"})
    control.release(folder)
    assert told(folder) == [
        {"event": "held"}, {"event": "cancelled", "trials": ["a", "b"]}, {"event": "unheld"},
    ]  # fmt: skip
    assert all(event["writer"].startswith("control-") for event in events.read_events(folder))


def test_cancelling_nothing_writes_nothing(tmp_path):
    folder = Folder(tmp_path / "small")
    folder.create()
    control.cancel_trials(folder, [])
    assert told(folder) == []
