"""The command line: `sweep COMMAND`. Each command calls one function and shows what it returns.

Heavy libraries are imported by the commands that need them. Exit codes: 0 fine; 1 the sweep has
failed or missing trials, or the work could not be done; 2 usage or spec; 3 cluster refused or not
reachable; 70 our bug; 130 interrupted.
"""

import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cluster.errors import ClusterError
from orchestrator import render
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import Folder
from orchestrator.render import Mode
from training.errors import DataError

EXIT_FAILED, EXIT_USAGE, EXIT_CLUSTER, EXIT_BUG, EXIT_INTERRUPTED = 1, 2, 3, 70, 130


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command its three outputs."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="Print ids only, one a line.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
    return quiet(as_json(command))


def results_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command be told where sweeps are kept."""
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("results"),
        envvar="SWEEP_RESULTS",
        show_default=True,
        help="Folder of all sweeps.",
    )(command)


def mode_of(as_json: bool, quiet: bool) -> Mode:
    """Choose the output; JSON wins."""
    return "json" if as_json else "quiet" if quiet else "text"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweep")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    r"""Train and compare thousands of robust MIL models, on a SLURM cluster or on this machine.

    \b
    sweep launch sweeps/demo.yaml     train what is missing of a sweep
    sweep status demo                 how far it is
    sweep aggregate demo              its table, to results/demo/tables/
    """


def main() -> None:
    """Run the command line; the place, with the worker, that catches every exception."""
    mode = mode_of("--json" in sys.argv, "--quiet" in sys.argv or "-q" in sys.argv)
    debug = "--debug" in sys.argv
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as problem:
        render.error(mode, kind="usage", message=_usage(problem))
        code = EXIT_USAGE
    except (SweepError, DataError, ClusterError) as problem:
        if debug:
            traceback.print_exc()
        kind = type(problem).__name__
        render.error(mode, kind=kind, message=problem.message, hint=problem.hint)
        code = _code(problem)
    except (KeyboardInterrupt, click.Abort):
        render.note("interrupted; the same command continues", kind="warning")
        code = EXIT_INTERRUPTED
    except Exception as problem:  # noqa: BLE001 - the boundary of the program
        code = _our_bug(mode, problem)
    sys.exit(code or 0)


def _code(problem: Exception) -> int:
    if isinstance(problem, ClusterError):
        return EXIT_CLUSTER
    return EXIT_FAILED if isinstance(problem, StoreError) else EXIT_USAGE


def _usage(problem: click.ClickException) -> str:
    command = getattr(getattr(problem, "ctx", None), "command_path", "sweep")
    return f"{problem.format_message()} See: {command} --help"


def _our_bug(mode: Mode, problem: Exception) -> int:
    with tempfile.NamedTemporaryFile(
        "w", prefix="sweep-trace-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(problem)))
    message = f"this is our bug: {type(problem).__name__}: {problem}".replace("\n", " ")
    render.error(mode, kind="bug", message=message, hint=f"please report it with {file.name}")
    return EXIT_BUG


def _launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--cluster", envvar="SWEEP_CLUSTER", help="Profile; default: the spec's."),
        click.option(
            "-n", "--dry-run", is_flag=True, help="Check, plan and price; submit nothing."
        ),
        click.option("-y", "--yes", is_flag=True, help="Spend GPU time without asking."),
        results_option,
        output_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("spec", type=click.Path(path_type=Path))
@_launch_options
def launch(
    spec: Path, cluster: str | None, dry_run: bool, yes: bool, results: Path, **output: bool
) -> int:
    """Train what is missing of SPEC.

    Example: sweep launch sweeps/full.yaml --cluster slurm_a100 --dry-run
    """
    from orchestrator import commands

    return commands.launch(
        spec, results=results, cluster=cluster, dry_run=dry_run, yes=yes, mode=mode_of(**output)
    )


@cli.command()
@click.argument("name")
@click.option(
    "--retry",
    multiple=True,
    type=click.Choice(["data", "numeric"]),
    help="Train again what failed in this way; other failures always are.",
)
@_launch_options
def resume(
    name: str,
    retry: tuple[str, ...],
    cluster: str | None,
    dry_run: bool,
    yes: bool,
    results: Path,
    **output: bool,
) -> int:
    """Train exactly what failed or is missing of sweep NAME, from its stored spec.

    Example: sweep resume demo
    """
    from orchestrator import commands

    folder = Folder(results / name)
    folder.require()
    return commands.launch(
        folder.spec,
        results=results,
        cluster=cluster or commands.last_cluster(folder),
        dry_run=dry_run,
        yes=yes,
        retry=retry,
        mode=mode_of(**output),
    )


@cli.command()
@click.argument("name")
@results_option
@output_options
def status(name: str, results: Path, **output: bool) -> int:
    """Show how far sweep NAME is. Reads small files and asks SLURM once.

    Example: sweep status demo
    """
    from orchestrator import commands

    return commands.status(Folder(results / name), mode=mode_of(**output))


@cli.command()
@click.argument("name")
@results_option
@output_options
def logs(name: str, results: Path, **output: bool) -> int:
    """Show the failures of sweep NAME, grouped by traceback, and where the job logs are.

    Example: sweep logs demo
    """
    from orchestrator import commands

    return commands.logs(Folder(results / name), mode=mode_of(**output))


@cli.command()
@click.argument("name")
@results_option
@output_options
def cancel(name: str, results: Path, **output: bool) -> int:
    """End the jobs of sweep NAME; what is done stays, and resume continues.

    Example: sweep cancel demo
    """
    from orchestrator import commands

    return commands.cancel(Folder(results / name), mode=mode_of(**output))


@cli.command()
@click.argument("name")
@click.option("--allow-missing", is_flag=True, help="Average cells that miss trials, marked so.")
@results_option
@output_options
def aggregate(name: str, allow_missing: bool, results: Path, **output: bool) -> int:
    """Turn the results of sweep NAME into tables under results/NAME/tables/.

    Example: sweep aggregate demo
    """
    from orchestrator import commands

    return commands.aggregate(
        Folder(results / name), allow_missing=allow_missing, mode=mode_of(**output)
    )


@cli.group()
def index() -> None:
    """Make a data folder from embeddings that exist already."""


def _import_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
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
    import dataclasses

    counts = {key: str(item) for key, item in dataclasses.asdict(report).items()}
    if mode == "json":
        render.value({"data": str(out), **dataclasses.asdict(report)})
    elif mode == "quiet":
        render.lines([str(out)])
    else:
        render.facts([("data", str(out)), *counts.items()])
    return 0
