"""From a spec to a table: plan, launch, watch, resume, aggregate. Trains nothing itself."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.notebook import Sweep


def load(path: "str | Path", *, allow_missing: bool = False) -> "Sweep":
    """Read the results of a sweep as tidy tables, for notebooks.

    Args:
        path: folder of the sweep, such as `results/full`.
        allow_missing: average what there is in incomplete and mixed cells.

    Raises:
        SweepError: There is no sweep.
        StoreError: Results cannot be read; the message names the file.
    """
    from orchestrator import notebook  # pandas, which the light commands go without

    return notebook.load(path, allow_missing=allow_missing)
