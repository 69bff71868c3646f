"""The data of a sweep: where they are, simulated where the spec says so, read and checked."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import spec
from orchestrator.spec_model import Spec

if TYPE_CHECKING:
    from training.data.index import Dataset


def path(sweep: Spec, results: Path) -> Path:
    """Return the data folder; that of a simulated cohort is named by its hash."""
    if sweep.simulation is None:
        assert sweep.data_path is not None
        return sweep.data_path
    return results / "data" / f"simulated-{spec.simulation_id(sweep.simulation)}"


def simulate(sweep: Spec, path: Path) -> None:
    """Write a simulated cohort, whole or not at all, unless it is there."""
    if sweep.simulation is None or path.is_dir():
        return
    from training import simulate as simulation

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".simulated-") as scratch:
        simulation.write(sweep.simulation, Path(scratch) / "data")
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
