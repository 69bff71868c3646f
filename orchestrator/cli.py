"""The command line: `sweep COMMAND`. Each command calls one function and shows what it returns.

Heavy libraries are imported by the commands that need them. Exit codes: 0 fine; 1 the sweep has
failed or missing trials, or the work could not be done; 2 usage or spec; 3 cluster refused or not
reachable; 70 our bug; 130 interrupted.
"""

import io
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import click

from cluster.errors import ClusterError, ProfileError
from orchestrator import render
from orchestrator.cli_aggregate import aggregate
from orchestrator.cli_doctor import doctor
from orchestrator.cli_embed import embed
from orchestrator.cli_index import index
from orchestrator.cli_launch import launch, resume
from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.cli_predict import predict
from orchestrator.cli_report import report
from orchestrator.cli_watch import cancel, hold, logs, status
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import Folder
from orchestrator.render import Mode
from training.errors import DataError

EXIT_FAILED, EXIT_USAGE, EXIT_CLUSTER, EXIT_BUG, EXIT_INTERRUPTED = 1, 2, 3, 70, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sweep")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Train and compare thousands of robust MIL models, on a SLURM cluster or on this machine.

    \b
    sweep launch sweeps/demo.yaml     train what is missing of a sweep
    sweep status demo                 how far it is
    sweep aggregate demo              its table, to results/demo/tables/
    sweep report demo                 a page with figures, to the same folder
    """  # noqa: D301 - the escape is click's mark for lines to keep


def main() -> None:
    """Run the command line; the place, with the worker, that catches every exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
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
        hint = "the same command continues"
        render.error(mode, kind="interrupted", message="interrupted", hint=hint)
        code = EXIT_INTERRUPTED
    except OSError as problem:
        render.error(mode, kind="StoreError", message=str(problem))
        code = EXIT_FAILED
    except Exception as problem:  # noqa: BLE001 - the boundary of the program
        code = _our_bug(mode, problem)
    sys.exit(code or 0)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def _code(problem: Exception) -> int:
    if isinstance(problem, ClusterError):
        return EXIT_USAGE if isinstance(problem, ProfileError) else EXIT_CLUSTER
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


@cli.command(short_help="Keep a sweep as one file, or bring it back.")
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file to write; default: NAME.parquet.",
)
@click.option("--restore", is_flag=True, help="Bring back the sweep of the archive file NAME.")
@results_option
@output_options
def archive(name: str, out: Path | None, restore: bool, results: Path, **output: bool) -> int:
    """Write the results of sweep NAME to one Parquet file, with a manifest beside it.

    \b
    Example: sweep archive demo --out /archive/demo.parquet
    Back:    sweep archive /archive/demo.parquet --restore
    """  # noqa: D301 - the escape is click's mark for lines to keep
    from orchestrator import archive as archives

    mode = mode_of(**output)
    if not restore:
        return archives.write(Folder(results / name), out or Path(f"{name}.parquet"), mode=mode)
    if out is not None:
        raise click.UsageError("--out and --restore exclude each other.")
    return archives.restore(Path(name), results, mode=mode)


for command in (
    aggregate, launch, resume, status, logs, hold, cancel, report, predict, doctor, index, embed,
):  # fmt: skip
    cli.add_command(command)
