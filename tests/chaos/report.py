"""The table of faults for results/README.md."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.chaos.ledger import Ledger

Record = dict[str, Any]


def record(known: Ledger, hits: Sequence[Any], resumes: Sequence[float]) -> list[Record]:
    """Say of each fault what it cost: attempts and resumes are laid to the last fault before.

    An attempt is lost if it was assigned and left no segment; its trials are laid to the last
    fault that happened while it trained.
    """
    from datetime import datetime

    def seconds(event: Record) -> float:
        return datetime.fromisoformat(event["time"]).timestamp()

    on_disk = set(known.segments)
    ends: dict[tuple[str, int], float] = {}
    for event in known.events:
        if event["event"] in ("failed", "released", "gone", "ended") and "pack" in event:
            ends.setdefault((event["pack"], event["attempt"]), seconds(event))
    rows = [
        {"kind": hit.kind, "answer": hit.answer, "time": hit.time, "trials": 0, "resumes": 0}
        for hit in hits
    ]
    struck = [row for row in rows if row["answer"] == "applied"]
    starts = sorted((seconds(event), event) for event in known.of("driving"))
    for event in known.of("assigned"):
        key, begun = (event["pack"], event["attempt"]), seconds(event)
        if key in on_disk:
            continue
        next_driver = next((when for when, _ in starts if when > begun), float("inf"))
        end = min(ends.get(key, float("inf")), next_driver)
        if cause := [row for row in struck if begun - 30 <= row["time"] <= end]:
            cause[-1]["trials"] += len(known.packs.get(event["pack"], ()))
    for when in resumes:
        if cause := [row for row in struck if row["time"] <= when]:
            cause[-1]["resumes"] += 1
    return rows


def markdown(records: Sequence[Record]) -> str:
    """Sum up over all sweeps, a row per kind of fault."""
    kinds: dict[str, list[Record]] = defaultdict(list)
    for row in records:
        kinds[row["kind"]].append(row)
    lines = [
        "| fault | tried | happened | refused | resumes after it | trials lost, mean |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, rows in sorted(kinds.items()):
        happened = [row for row in rows if row["answer"] == "applied"]
        lines.append(_line(kind, rows, happened))
    happened = [row for row in records if row["answer"] == "applied"]
    return "\n".join([*lines, _line("**all**", records, happened)])


def _line(kind: str, rows: Sequence[Record], happened: Sequence[Record]) -> str:
    refused = sum(row["answer"].startswith("refused") for row in rows)
    resumes = sum(row["resumes"] for row in rows)
    lost = sum(row["trials"] for row in happened) / max(len(happened), 1)
    return f"| {kind} | {len(rows)} | {len(happened)} | {refused} | {resumes} | {lost:.1f} |"
