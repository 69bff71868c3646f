"""What a data set has of an encoder already, and whether it is what would be made now."""

from pathlib import Path
from typing import Any

import numpy as np

from training.data import joining
from training.data.bags import checksum
from training.data.joining import Existing
from training.errors import DataError
from training.extraction import staging
from training.extraction.config import Tiling
from training.extraction.requests import Chosen
from training.extraction.slide_table import Table
from training.extraction.staging import Facts


def rows(before: Existing | None, encoder: str) -> dict[str, Any]:
    """Give the rows of an encoder by view."""
    if before is None:
        return {}
    index = before.index[before.index["encoder"] == encoder]
    return {str(row.view): row for row in index.itertuples(index=False)}


def conflicts(data: Path, chosen: Chosen, table: Table) -> list[str]:
    """Say what differs in views that would stay, of slides that are not in the table.

    Args:
        data: the data set.
        chosen: the encoder, and how its bags are made now.
        table: of slides.
    """
    name = chosen.encoder.name
    found = rows(joining.existing(data), name).values()
    staying = [row for row in found if str(row.slide) not in table.slides]
    same = {
        "weights": all(str(row.encoder_revision) == chosen.weights.revision for row in staying),
        "arithmetic": all(str(row.precision) == chosen.precision for row in staying),
        "tiles": all(_has_tiles(row, chosen.tiling) for row in staying),
    }
    others = [what for what, is_same in same.items() if not is_same]
    if not others:
        return []
    return [
        f"{data}: has views of encoder {name!r} by other {' and '.join(others)}, of slides that "
        "are not in this table: give a new --out, or all slides"
    ]


def is_bag(row: Any, chosen: Chosen, file: Path, facts: Facts) -> bool:
    """Tell whether a staged bag is in the data set: a call was killed before it cleared up.

    Args:
        row: of the view, in the data set.
        chosen: what made the staged bag.
        file: the staged bag.
        facts: of it.
    """
    known = (facts.num_tiles, facts.dim, facts.dtype, facts.mpp_read, facts.tile_um)
    made_by = (chosen.weights.revision, chosen.precision)
    if (row.num_tiles, row.dim, row.dtype, row.mpp_read, row.tile_um) != known:
        return False
    if (row.encoder_revision, row.precision) != made_by:
        return False
    try:
        return checksum(staging.bag(file)) == str(row.checksum)
    except DataError:  # told when it is brought in
        return False


def _has_tiles(row: Any, tiling: Tiling) -> bool:
    """Tell whether a view's tiles are as large, and read at the scale, as asked for."""
    away = abs(float(row.mpp_read) / tiling.mpp - 1)
    side = float(row.tile_um) / float(row.mpp_read)
    return away <= tiling.mpp_tolerance + 1e-9 and bool(np.isclose(side, tiling.tile_px))
