"""The data of a sweep: where they are, simulated where the spec says so, read and checked."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import spec
from orchestrator.folder import Share
from orchestrator.spec_model import Spec

if TYPE_CHECKING:
    from training.data.index import Dataset


def path(sweep: Spec, results: Path) -> Path:
    """Return the data folder; that of a simulated cohort is named by its hash."""
    if sweep.simulation is None:
        assert sweep.data_path is not None
        return sweep.data_path
    return results / "data" / f"simulated-{spec.simulation_id(sweep.simulation)}"


def simulate(sweep: Spec, path: Path, *, share: Share = "private") -> None:
    """Write a simulated cohort, whole or not at all, unless it is there.

    Args:
        sweep: the spec.
        path: folder of the cohort.
        share: who may read it.
    """
    if sweep.simulation is None or path.is_dir():
        return
    from training import simulate as simulation

    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
        path.parent.chmod(0o750 if share == "group" else 0o700)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".simulated-") as scratch:
        simulation.write(sweep.simulation, Path(scratch) / "data")
        _give(Path(scratch) / "data", share)
        # Another launch may have been quicker: it wrote the same bytes.
        with contextlib.suppress(OSError):
            (Path(scratch) / "data").rename(path)


def read(data: Path, rows: Sequence[spec.Row]) -> "Dataset | None":
    """Read and check the data; None where nothing is there yet.

    Raises:
        DataError: The data are wrong; all problems at once.
    """
    from training.data import index
    from training.errors import DataError

    if not data.exists():
        return None
    dataset = index.read(data)
    encoders = list(dict.fromkeys(row.encoder for row in rows))
    absent = index.missing_encoders(dataset, encoders)
    present = [name for name in encoders if name not in absent]
    problems: dict[str, None] = {}
    for task in dict.fromkeys(row.config.task for row in rows):
        problems.update(dict.fromkeys(index.check(dataset, encoders=present, task=task)))
    if problems:
        raise DataError("\n".join(problems), hint=f"mend {data} or import it again: sweep index")
    return dataset


def _give(root: Path, share: Share) -> None:
    """Let those read a tree whom the profile names, whatever the umask is."""
    further = 0o050 if share == "group" else 0
    for path in (root, *root.rglob("*")):
        path.chmod((0o700 | further) if path.is_dir() else (0o600 | further & 0o040))
