"""The command `sweep aggregate`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder

RULES = ["accuracy", "robustness", "robust_within_margin"]


@click.command(short_help="Write the tables of a sweep.")
@click.argument("name")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Metric to show; several.")
@click.option(
    "--by", multiple=True, metavar="COLUMN", help="What tells rows apart: encoder, arm, axes."
)
@click.option("--against", metavar="ARM", help="Arm to compare the others with; '' for none.")
@click.option(
    "--where", multiple=True, metavar="KEY=VALUE", help="Only these cells; may be repeated."
)
@click.option("--cell", "cells", type=int, multiple=True, help="List the trials behind a row.")
@click.option(
    "--intervals/--no-intervals", default=None, help="Always, or never; default: where it is quick."
)
@click.option("--draws", default=2000, show_default=True, help="Draws of patients.")
@click.option(
    "--method",
    type=click.Choice(["percentile", "bca", "expanded"]),
    default="expanded",
    show_default=True,
    help="Kind of interval; make coverage compares them.",
)
@click.option("--allow-missing", is_flag=True, help="Average incomplete and mixed cells, marked.")
@click.option(
    "--select",
    type=click.Choice(RULES),
    help="Also choose one setting per encoder, arm and fold, on validation patients; default: the "
    "rule of the spec.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Accuracy that robust_within_margin may lose; default: 0.01.",
)
@click.option(
    "--representation",
    is_flag=True,
    help="Also measure kept embeddings, about a second a trial.",
)
@click.option(
    "--reference",
    metavar="ARM",
    help="Arm that --representation compares with; default: the first without losses.",
)
@click.option(
    "--cohort",
    metavar="NAME|FILE",
    help="Judge on a cohort that no selection has seen: an external one of the spec, or a file of "
    "`sweep predict`.",
)
@results_option
@output_options
def aggregate(
    name: str,
    metrics: tuple[str, ...],
    by: tuple[str, ...],
    against: str | None,
    where: tuple[str, ...],
    cells: tuple[int, ...],
    intervals: bool | None,
    draws: int,
    method: str,
    allow_missing: bool,
    select: str | None,
    margin: float | None,
    representation: bool,
    reference: str | None,
    cohort: str | None,
    results: Path,
    **output: bool,
) -> int:
    """Turn the results of sweep NAME into tables under results/NAME/tables/.

    \b
    Example: sweep aggregate demo
    Compared, with intervals:        sweep aggregate demo --metric auroc --against erm
    Settings chosen inside each fold: sweep aggregate demo --select robust_within_margin
    On an external cohort:           sweep aggregate full --cohort hospital_b
    """  # noqa: D301 - the escape is click's mark for lines to keep
    from orchestrator import tabulate
    from orchestrator.answers import Asked

    if reference is not None and not representation:
        raise click.UsageError("--reference needs --representation.")
    if cohort is not None and representation:
        raise click.UsageError("--cohort and --representation exclude each other.")
    asked = Asked(
        metrics=metrics, by=tuple(part for text in by for part in text.split(",")),
        against=against, where=where, cells=cells, intervals=intervals, draws=draws,
        method=method, allow_missing=allow_missing, select=select, margin=margin,
        representation=representation, reference=reference, cohort=cohort,
    )  # fmt: skip
    return tabulate.aggregate(Folder(results / name), asked, mode=mode_of(**output))
