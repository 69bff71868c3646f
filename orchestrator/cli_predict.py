"""The command `sweep predict`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder


@click.command(short_help="Apply the kept models of a sweep to other scans.")
@click.argument("name")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the scans, as `sweep index` or `sweep embed` writes it; needs no labels.",
)
@click.option(
    "--where", multiple=True, metavar="KEY=VALUE", help="Only these cells; may be repeated."
)
@click.option("--cell", "cells", type=int, multiple=True, help="Only this cell; may be repeated.")
@click.option(
    "--ensemble/--no-ensemble",
    default=False,
    help="Mean score of all models of a cell, or every model; default: every model.",
)
@click.option(
    "--allow-missing", is_flag=True, help="Ensembles of incomplete and mixed cells, too, marked."
)
@click.option(
    "--allow-seen", is_flag=True, help="Also patients that the sweep knows; a column marks them."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file to write, CSV and JSON beside it; default: in results/NAME/predictions.",
)
@results_option
@output_options
def predict(
    name: str,
    data: Path,
    where: tuple[str, ...],
    cells: tuple[int, ...],
    ensemble: bool,
    allow_missing: bool,
    allow_seen: bool,
    out: Path | None,
    results: Path,
    **output: bool,
) -> int:
    """Apply the models of sweep NAME whose weights are kept to the scans of other data.

    One table with a row per model (or ensemble) and scan, and a description of what made it.

    \b
    Example: sweep predict full --data data/external
    One score per cell: sweep predict full --data data/external --where arm=score --ensemble
    """  # noqa: D301 - the escape is click's mark for lines to keep
    from orchestrator import predict as predictions
    from orchestrator.predict import Asked

    if out is not None and out.suffix != ".parquet":
        raise click.UsageError("--out takes a file that ends in .parquet.")
    asked = Asked(
        data=data, where=where, cells=cells, ensemble=ensemble, allow_missing=allow_missing,
        allow_seen=allow_seen, out=out,
    )  # fmt: skip
    return predictions.predict(Folder(results / name), asked, mode=mode_of(**output))
