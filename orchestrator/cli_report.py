"""The command `sweep report`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder


@click.command(short_help="Write a report that people can open, or a bundle for a paper.")
@click.argument("name")
@click.option(
    "--bundle", is_flag=True, help="Write tables, figures, predictions and versions, too."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write into; default: results/NAME/tables, of a bundle its folder bundle.",
)
@click.option("--allow-missing", is_flag=True, help="Average cells that miss trials, marked so.")
@click.option(
    "--draws",
    type=click.IntRange(min=0),
    help="Draws of patients for intervals; default: 2000, none where that is dear on a login node.",
)
@results_option
@output_options
def report(
    name: str,
    bundle: bool,
    out: Path | None,
    allow_missing: bool,
    draws: int | None,
    results: Path,
    **output: bool,
) -> int:
    """Write one HTML file with the numbers, figures and provenance of sweep NAME.

    It opens offline, on a phone and in print. With --bundle a folder for a paper.

    \b
    Example: sweep report demo
    For a paper: sweep report demo --bundle --out paper/demo
    """  # noqa: D301 - the escape is click's mark for lines to keep
    from orchestrator import report as reports

    return reports.write(
        Folder(results / name),
        allow_missing=allow_missing,
        out=out,
        bundled=bundle,
        draws=draws,
        mode=mode_of(**output),
    )
