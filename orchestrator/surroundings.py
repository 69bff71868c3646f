"""What a worker finds out about its node, and tells it: files in the node's own folder.

The pilot writes `place.json` and `drain`; a worker writes `busy/<pid>` while it holds a pack and
`out-of-time` where no pack fits the time that is left. On one machine there is no such folder or
no place in it.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import ray_node
from orchestrator.folder import file_mode
from orchestrator.worker import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node of this process; `folder` is None outside a sweep."""

    folder: Path | None

    @classmethod
    def here(cls) -> "Node":
        """Find the node of this process by its environment."""
        name = os.environ.get(ray_node.NODE_VARIABLE)
        return cls(folder=Path(name) if name else None)

    def place(self) -> Place:
        """Tell where this worker is and how long it can stay."""
        path = self.folder / "place.json" if self.folder else None
        if path is None or not path.exists():
            return Place()
        told = json.loads(path.read_text(encoding="utf-8"))
        return Place(
            pilot=told["pilot"],
            node=told["node"],
            seconds_left=told["ends"] - time.time(),
            walltime_s=told["walltime_s"],
            size=told["size"],
            shares_gpu=told["shares_gpu"],
        )

    def draining(self) -> bool:
        """Tell whether the pilot asks for packs back."""
        return self.folder is not None and (self.folder / "drain").exists()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Let the pilot know that this process has, or is about to have, a pack."""
        mark = self.folder / "busy" / str(os.getpid()) if self.folder else None
        if mark is not None:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
        try:
            yield
        finally:
            if mark is not None:
                mark.unlink(missing_ok=True)

    def say_out_of_time(self) -> None:
        """Let the pilot know that no pack fits the time that it has left."""
        if self.folder is not None:
            (self.folder / "out-of-time").touch()

    def log_to(self, folder: Path) -> None:
        """Send the log of this process to a file of its own below `folder`."""
        where = self.place().pilot or "local"
        path = folder / f"{where}-{os.getpid()}.log"
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        path.chmod(file_mode(folder))
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
        for name in ("orchestrator", "training"):
            log = logging.getLogger(name)
            log.addHandler(handler)
            log.setLevel(logging.INFO)
