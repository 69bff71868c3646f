"""Under which licence the embeddings of a sweep are; read from its data, where they still are."""

import re
from collections.abc import Collection, Mapping, Sequence

from orchestrator import inputs, spec
from orchestrator.errors import SweepError
from orchestrator.folder import Folder

UNKNOWN = "unknown"

_FREE = re.compile(r"\b(apache|mit|bsd|isc|cc0|cc[- ]by|public domain|simulated)\b", re.IGNORECASE)
_TIED = re.compile(
    r"\b(nc|nd)\b|non-?\s?commercial|no-?\s?deriv|research|academic|gated|restricted|\bonly\b",
    re.IGNORECASE,
)
"""What takes back, anywhere in the text, what a free licence in it gives: of the code, say."""


def is_free(text: str) -> bool:
    """Tell whether terms are known to let anyone pass on what is made with them."""
    return bool(_FREE.search(text)) and not _TIED.search(text)


def read(folder: Folder, encoders: Collection[str]) -> dict[str, list[str]]:
    """Read the licences of each encoder's embeddings; empty where the data cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        path = inputs.path(spec.read(folder.spec), folder.root.parent) / "index.parquet"
        table = pq.read_table(path, columns=["encoder", "licence"])
        rows = table.group_by(["encoder", "licence"], use_threads=False).aggregate([]).to_pylist()
    except (SweepError, OSError, pa.ArrowInvalid):
        return {}
    found: dict[str, dict[str, None]] = {name: {} for name in sorted(encoders)}
    for row in rows:
        if row["encoder"] in found:
            found[row["encoder"]][str(row["licence"] or UNKNOWN)] = None
    return {name: list(licences) for name, licences in found.items()}


def remarks(licences: Mapping[str, Sequence[str]]) -> list[str]:
    """Say which licences may forbid passing on results: those not known to be free."""
    lines = []
    for encoder, names in licences.items():
        tied = [name for name in names if name != UNKNOWN and not is_free(name)]
        if tied:
            lines.append(
                f"embeddings of {encoder} are under {', '.join(tied)}: look before you pass on "
                "predictions, embeddings or weights made with them"
            )
    return lines
