"""The tables of a sweep that need no draws; pure."""

import pandas as pd

from orchestrator import aggregate, robustness, tradeoff
from orchestrator.aggregate import Joined


def by_name(joined: Joined, *, reference: str) -> dict[str, pd.DataFrame]:
    """Make `main` and `tradeoff`, and where trials have two scanners `robustness` and `scanners`.

    Args:
        joined: plan and results.
        reference: the arm that others are compared with in `tradeoff`; empty for none.
    """
    main, robust = aggregate.main(joined), robustness.cells(joined)
    made = {
        "main": main,
        "robustness": robust,
        "scanners": robustness.scanners(joined),
        "tradeoff": tradeoff.table(joined, main, robust, reference=reference),
    }
    return {name: table for name, table in made.items() if table is not None}
