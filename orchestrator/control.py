"""What commands ask of a running driver: events in the sweep's folder, read within seconds.

Nothing is sent to a process, so a driver that is queued, requeued or away obeys when it is back.
"""

from collections.abc import Collection

from orchestrator.events import Journal
from orchestrator.folder import Folder

ROLE = "control"


def cancel_trials(folder: Folder, trials: Collection[str]) -> None:
    """Ask that these trials are not trained; results that they have stay."""
    if trials:
        Journal(folder, ROLE).write("cancelled", trials=sorted(trials))


def hold(folder: Folder) -> None:
    """Ask that no further pack begins and no pilot is submitted."""
    Journal(folder, ROLE).write("held")


def release(folder: Folder) -> None:
    """Ask that a held sweep goes on."""
    Journal(folder, ROLE).write("unheld")
