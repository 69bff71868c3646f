"""The commands `sweep index …`, which make a data folder from embeddings that exist already."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator import render
from orchestrator.cli_options import mode_of, output_options
from orchestrator.render import Mode


@click.group(short_help="Make a data folder from embeddings.")
def index() -> None:
    """Make a data folder from embeddings that exist already."""


def _import_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options: list[Callable[..., Any]] = [
        click.option("--out", type=click.Path(path_type=Path), required=True, help="Data folder."),
        click.option("--encoder", required=True, help="Name of the encoder in the index."),
        click.option(
            "--folds",
            type=click.Path(path_type=Path),
            help="CSV of your folds: repetition, fold, patient (held out).",
        ),
        output_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@index.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("slides", type=click.Path(path_type=Path))
@click.option("--licence", default="", help="Licence of the encoder, kept with every result.")
@_import_options
def features(
    folder: Path,
    slides: Path,
    licence: str,
    out: Path,
    encoder: str,
    folds: Path | None,
    **output: bool,
) -> int:
    """Import FOLDER of CLAM, TRIDENT or STAMP files (.h5 or .pt, one a scan) and the SLIDES table.

    Example: sweep index features features/uni slides.csv --encoder uni --out data/crc
    """
    from training.data import importing

    report = importing.import_features(
        folder, slides, out=out, encoder=encoder, folds=folds, licence=licence
    )
    return _imported(report, out, mode_of(**output))


@index.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--bag", default="bag", show_default=True, help="Column that names the bag.")
@click.option("--label", default="label", show_default=True, help="Column of the bag's label.")
@click.option("--patient", help="Column of the patient; default: the bag.")
@_import_options
def instances(
    table: Path,
    bag: str,
    label: str,
    patient: str | None,
    out: Path,
    encoder: str,
    folds: Path | None,
    **output: bool,
) -> int:
    """Import TABLE of instances (CSV or Parquet): bag, label, and columns that are the embedding.

    Example: sweep index instances musk1.csv --encoder musk1 --out data/musk1
    """
    from training.data import importing

    report = importing.import_instances(
        table, out=out, encoder=encoder, bag=bag, label=label, patient=patient, folds=folds
    )
    return _imported(report, out, mode_of(**output))


def _imported(report: Any, out: Path, mode: Mode) -> int:
    counts = {key: str(item) for key, item in dataclasses.asdict(report).items()}
    if mode == "json":
        render.value({"data": str(out), **dataclasses.asdict(report)})
    elif mode == "quiet":
        render.lines([str(out)])
    else:
        render.facts([("data", str(out)), *counts.items()])
    return 0
