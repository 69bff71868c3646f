"""The command that turns slides into embeddings: `sweep embed`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options


@click.command(short_help="Make a data folder from slides.")
@click.argument("slides", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Data folder.")
@click.option(
    "--encoder",
    "encoders",
    multiple=True,
    required=True,
    help="Encoder by name, or any model of timm; several share one reading of the slides.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="NAME=PATH",
    help="File with the weights of an encoder; default: the hub's.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="YAML: tiles, tissue, pairs, views."
)
@click.option(
    "--folds",
    type=click.Path(path_type=Path),
    help="CSV of your folds: repetition, fold, patient (held out).",
)
@click.option("--limit", type=click.IntRange(min=1), help="The first so many slides only.")
@click.option("--device", help="cpu or cuda; default: cuda where there is one.")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that decode; default: by the cores."
)
@click.option("--cluster", help="Profile of a cluster; default: this machine.")
@click.option("-y", "--yes", is_flag=True, help="Spend GPU time without asking.")
@output_options
def embed(
    slides: Path,
    out: Path,
    encoders: tuple[str, ...],
    checkpoints: tuple[str, ...],
    config: Path | None,
    folds: Path | None,
    limit: int | None,
    device: str | None,
    workers: int | None,
    cluster: str | None,
    yes: bool,
    **output: bool,
) -> int:
    """Cut, pair and encode the scans of the table SLIDES; go on where it was stopped.

    \b
    Example: sweep embed slides.csv --encoder uni --encoder virchow2 --out data/crc
    On a cluster: sweep embed slides.csv --encoder uni --out data/crc --cluster slurm_a100
    """  # noqa: D301 - the escape is click's mark for lines to keep
    from orchestrator import embed as embedding

    return embedding.run(
        embedding.request(
            slides, out=out, encoders=encoders, checkpoints=checkpoints, config=config,
            folds=folds, limit=limit, device=device, workers=workers,
        ),
        cluster=cluster,
        yes=yes,
        mode=mode_of(**output),
        given=[
            name
            for name, value in (("--device", device), ("--workers", workers))
            if value is not None
        ],
    )  # fmt: skip
