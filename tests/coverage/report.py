"""The section of `results/README.md` on intervals."""

from orchestrator import statistics
from tests.coverage import work, world
from tests.coverage.work import Counts

BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"


def markdown(counts: Counts, *, commit: str) -> str:
    """Write the section."""
    sizes = sorted(counts.cohorts)
    total = " + ".join(f"{counts.cohorts[size]:,} cohorts of {size:,}" for size in sizes)
    parts = [
        BEGIN,
        "## Intervals",
        f"`make coverage` on commit `{commit}`: in percent, how often a 95 % interval holds the "
        f"truth. Two fixed models, {world.SCANNERS} scanners (concordance: one), the truth from a "
        f"million patients; {total} patients, "
        f"{work.NUM_DRAWS:,} draws each; {counts.seconds / 60:.0f} CPU minutes. In brackets the "
        "exact 95 % interval (Clopper and Pearson); **bold** where it lies below 95 %.",
        _covered(counts),
        "Family-wise error under the null, in percent: cohorts in which Holm's method left "
        f"any of {world.PAIRS} comparisons of equally good models (AUROC) significant at 5 %; "
        "**bold** where the interval lies above 5 %.",
        _errors(counts),
        END,
    ]
    return "\n\n".join(parts) + "\n"


def _covered(counts: Counts) -> str:
    rows = [
        [
            metric.replace("_", " "), kind, f"{size:,}",
            *(
                _share(counts.held[size, metric, kind, method], counts.cohorts[size], below=95)
                for method in work.METHODS
            ),
        ]
        for metric in world.METRICS
        for kind in ("single", "difference")
        for size in sorted(counts.cohorts)
    ]  # fmt: skip
    return _table(["metric", "of", "patients", *work.METHODS], rows)


def _errors(counts: Counts) -> str:
    rows = [
        [
            f"{size:,}",
            *(
                _share(counts.rejected[size, method], counts.cohorts[size], above=5)
                for method in work.METHODS
            ),
        ]
        for size in sorted(counts.cohorts)
    ]
    return _table(["patients", *work.METHODS], rows)


def _share(part: int, whole: int, *, below: float = 0, above: float = 100) -> str:
    low, high = (100 * each for each in statistics.exact_interval(part, whole))
    text = f"{100 * part / whole:.1f} ({low:.1f} to {high:.1f})"
    return f"**{text}**" if high < below or low > above else text


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
