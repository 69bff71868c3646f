"""The tables of the benchmark, from what was measured; nothing is in them that was not."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import lanes, systems
from tests.bench.record import Record

Values = dict[str, Any]
Work = Callable[[], Values]

WAYS = (
    "memcpy", "loader, as stored", "loader, to float32", ".pt file per slide",
    ".h5 file per slide", "loader, 512 tiles", ".pt file, 512 tiles", ".h5 file, 512 tiles",
)  # fmt: skip


def markers(*, full: bool) -> tuple[str, str]:
    """Name the lines between which a form's tables stand."""
    name = "bench-full" if full else "bench"
    return f"<!-- {name}, made by python -m tests.bench -->\n", f"<!-- end of {name} -->\n"


def put(section: str, page: Path, *, full: bool) -> None:
    """Replace the section of a page between its markers, or add it at the end."""
    begin, end = markers(full=full)
    text = page.read_text() if page.exists() else ""
    before, found, rest = text.partition(begin)
    after = rest.partition(end)[2] if found else ""
    joined = (before if found else text.rstrip("\n") + "\n\n") + begin + section + end + after
    temporary = page.with_name(f".{page.name}")
    temporary.write_text(joined)
    temporary.replace(page)


def markdown(record: Record, *, full: bool) -> str:
    """Write all tables."""
    machine = record.head["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    loads = [row["load_1min"] for row in record.rows]
    command = "make bench-full" if full else "make bench"
    lines = [
        f"## Speed{', full form' if full else ''}",
        f"`{command}`, commit `{record.head['commit']}`, {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['memory_gb']} GB, Python {machine['python']}, {versions}. "
        f"Raw numbers: `bench/{record.path.name}`. Load of the machine meanwhile: "
        f"{statistics.median(loads):.1f} (median of one-minute averages; the benchmark itself "
        f"makes about {machine['cores']}, more means others disturbed it)."
        if loads
        else "",
        "",
        *_systems(record),
        *_lanes(record),
        *_loading(record),
        *_scale(record),
    ]
    return "\n".join(lines) + "\n"


def _systems(record: Record) -> list[str]:
    figures = sorted({row["figure"] for row in record.rows if row["figure"][:7] == "systems"})
    lines: list[str] = []
    cores = record.head["machine"]["cores"]
    for figure in figures:
        bare = _pairs(record, figure, "bare")
        if not bare:
            continue
        trials = int(next(iter(bare.values()))["trials"])
        per_trial = statistics.median(one["core_s"] for one in bare.values()) / trials
        lines += [
            f"**{trials} trials of about {figure.removeprefix('systems, ')}** (bare training: "
            f"{per_trial:.2f} core-seconds a trial; medians of {len(bare)} repeats):",
            "",
            "| system | wall s | efficiency | start-up s | then, core-s a trial | efficiency "
            "without start-up | between packs, ms | sweep is faster by |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        ours = _pairs(record, figure, "sweep")
        for name in (*systems.OURS, *systems.OTHERS):
            mine = _pairs(record, figure, name)
            both = [number for number in mine if number in bare]
            if not both:
                continue
            lines.append(_system_row(name, mine, bare, ours, both, cores=cores, trials=trials))
        lines.append("")
    if lines:
        lines = ["### Systems", *_explained(cores), "", *lines]
    return lines


def _explained(cores: int) -> list[str]:
    return [
        f"Every system trains the same trials on {cores} cores, one thread each. *Efficiency*: "
        "core-seconds of bare training (an ordinary single model, warm process, data in memory) "
        "over wall time × cores, from the command to the end of the last trial; above 1 where "
        "lanes are cheaper than single models. *Start-up*: until the first trial trains; in "
        "brackets from the start of the first pilot. *Between packs*: from the end of a pack's "
        "training until the worker trains the next. The last column is the median over repeats of "
        "the ratio of wall times. All but the `sweep` rows train with an ordinary single model, "
        "without the companion of a lone lane.",
    ]


def _system_row(
    name: str,
    mine: dict[int, Values],
    bare: dict[int, Values],
    ours: dict[int, Values],
    both: Sequence[int],
    *,
    cores: int,
    trials: int,
) -> str:
    def median(of: Callable[[int], float]) -> float:
        return statistics.median(of(number) for number in both)

    wall = median(lambda n: mine[n]["wall_s"])
    startup = median(lambda n: mine[n]["startup_s"])
    steady = median(lambda n: (mine[n]["wall_s"] - mine[n]["startup_s"]) * cores / trials)
    whole = median(lambda n: bare[n]["core_s"] / (mine[n]["wall_s"] * cores))
    warm = median(
        lambda n: bare[n]["core_s"] / ((mine[n]["wall_s"] - mine[n]["startup_s"]) * cores)
    )
    paired = [mine[n]["wall_s"] / ours[n]["wall_s"] for n in both if n in ours]
    ratio = f"{statistics.median(paired):.2f} ×" if paired and name != "sweep" else ""
    gaps = [mine[n]["gap_s"] for n in both if "gap_s" in mine[n]]
    gap = f"{1e3 * statistics.median(gaps):.0f}" if gaps else ""
    pilots = [mine[n]["pilot_s"] for n in both if "pilot_s" in mine[n]]
    pilot = f" ({statistics.median(pilots):.1f})" if pilots else ""
    return (
        f"| {name} | {wall:.1f} | {whole:.2f} | {startup:.1f}{pilot} | {steady:.2f} | {warm:.2f} "
        f"| {gap} | {ratio} |"
    )


def _pairs(record: Record, figure: str, name: str) -> dict[int, Values]:
    return {
        row["repeat"]: row["values"]
        for row in record.rows
        if (row["figure"], row["name"]) == (figure, name) and row["values"]
    }


def _lanes(record: Record) -> list[str]:
    found = record.all("lanes", "sizes")
    if not found:
        return []
    cells = [
        statistics.median(one[str(size)] / one["plain"] for one in found) for size in lanes.SIZES
    ]
    plain = statistics.median(one["plain"] for one in found)
    return [
        "### Lanes",
        f"CPU seconds per trial of a pack of K lanes over those of an ordinary single model "
        f"({plain:.2f} s), medians of {len(found)} repeats. K = 1 has its dummy companion.",
        "",
        "| K | " + " | ".join(map(str, lanes.SIZES)) + " |",
        "| --- |" + " --- |" * len(lanes.SIZES),
        "| time per trial | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |",
        "| trials per hour | " + " | ".join(f"{1 / cell:.2f} ×" for cell in cells) + " |",
        "",
        *_losses(record),
    ]


def _losses(record: Record) -> list[str]:
    found = record.all("lanes", "losses")
    if not found:
        return []
    ratio = statistics.median(one["packs of one"] / one["one pass"] for one in found)
    text = f"{len(lanes.LOSSES)} trials with as many kinds of loss take {ratio:.2f} times as long"
    return [f"{text} in packs of one as in one pass (median of {len(found)} repeats).", ""]


def _loading(record: Record) -> list[str]:
    found = record.all("loading", "ways")
    if not found:
        return []

    def median(name: str) -> float:
        return statistics.median(one[name] for one in found)

    lines = [
        "### Loading",
        "Bags of 6 MB (3,072 × 1,024, float16), warm page cache, nothing resident: GB/s of stored "
        "bytes; ways with 512 tiles draw them from each bag, milliseconds per bag.",
        "",
        "| way | GB/s | of memcpy |",
        "| --- | --- | --- |",
    ]
    for name in WAYS:
        if name.endswith("tiles"):
            continue
        share = statistics.median(one[name] / one["memcpy"] for one in found)
        lines.append(f"| {name} | {median(name):.2f} | {share:.2f} |")
    lines += ["", "| way | ms per bag |", "| --- | --- |"]
    lines += [f"| {name} | {median(name):.2f} |" for name in WAYS if name.endswith("tiles")]
    return [*lines, ""]


def _scale(record: Record) -> list[str]:
    rows = {row["name"]: row["values"] for row in record.rows if row["figure"] == "scale"}
    counts = sorted({int(name.rpartition(", ")[2]) for name in rows})
    if not counts:
        return []
    lines = [
        "### Orchestrator",
        "",
        "| | " + " | ".join(f"{count:,} trials" for count in counts) + " |",
        "| --- |" + " --- |" * len(counts),
    ]
    for title, what, key, digits in (
        ("spec to packs, 100 cells, s", "plan, 100 cells", "seconds", 2),
        ("spec to packs, a cell per trial, s", "plan, a cell per trial", "seconds", 2),
        ("driver's queue, s", "driver", "seconds", 2),
        ("driver's queue, MB", "driver", "mb", 1),
        ("`status`, s", "commands", "status", 2),
        ("`aggregate` without intervals, s", "commands", "aggregate", 2),
        ("`aggregate` with intervals, s", "commands", "intervals", 2),
        ("files of the sweep", "commands", "files", 0),
    ):
        cells = [rows.get(f"{what}, {count}", {}).get(key) for count in counts]
        shown = ["–" if cell is None else f"{cell:,.{digits}f}" for cell in cells]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    return [*lines, ""]
