"""Do intervals hold the truth as often as they say? `make coverage`, or `python -m tests.coverage`.

At most 20 minutes on two cores; a call that is stopped is continued by the next one. It prints the
table and puts it into `results/README.md`; less than all of it is printed only.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: the processes share the cores

import sys
from pathlib import Path

import click

from tests.coverage import report, work
from tests.science import frozen
from tests.science.report import put


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results/coverage"),
    show_default=True,
    help="Folder of what was computed.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path("results/README.md"),
    show_default=True,
    help="Page that gets the section.",
)
@click.option("--size", "sizes", type=int, multiple=True, help="Only cohorts of so many patients.")
@click.option("--cohorts", default=work.COHORTS, show_default=True, help="Of each size.")
@click.option("--minutes", default=19.0, show_default=True, help="No part begins later.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
def main(
    out: Path, page: Path, sizes: tuple[int, ...], cohorts: int, minutes: float, workers: int
) -> None:  # fmt: skip
    """Compute what is missing and show the table."""
    wanted = sizes or work.SIZES
    counts = work.compute(
        out, sizes=wanted, cohorts=cohorts, minutes=minutes, workers=workers, say=click.echo
    )
    if counts.cohorts:
        section = report.markdown(counts, commit=frozen.commit())
        click.echo(section)
    if any(counts.cohorts[size] < cohorts for size in wanted):
        click.echo("INCOMPLETE: the same command goes on")
        sys.exit(1)
    if wanted == work.SIZES and cohorts >= work.COHORTS:
        put(section, page, begin=report.BEGIN, end=report.END)


if __name__ == "__main__":
    main(prog_name="python -m tests.coverage")
