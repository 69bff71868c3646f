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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cluster.errors import ClusterError
from orchestrator import render
from orchestrator.cli_index import index
from orchestrator.cli_options import mode_of, output_options, results_option
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
    options: list[Callable[..., Any]] = [
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


@cli.command(short_help="Train what is missing of a spec.")
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


@cli.command(short_help="Train what failed or is missing of a sweep.")
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
    commands.require_own_spec(folder)
    return commands.launch(
        folder.spec,
        results=results,
        cluster=cluster or commands.last_cluster(folder),
        dry_run=dry_run,
        yes=yes,
        retry=retry,
        mode=mode_of(**output),
    )


@cli.command(short_help="Show how far a sweep is.")
@click.argument("name")
@results_option
@output_options
def status(name: str, results: Path, **output: bool) -> int:
    """Show how far sweep NAME is. Reads small files and asks SLURM once.

    Example: sweep status demo
    """
    from orchestrator import watch

    return watch.status(Folder(results / name), mode=mode_of(**output))


@cli.command(short_help="Show failures by traceback.")
@click.argument("name")
@results_option
@output_options
def logs(name: str, results: Path, **output: bool) -> int:
    """Show the failures of sweep NAME, grouped by traceback, and where the job logs are.

    Example: sweep logs demo
    """
    from orchestrator import watch

    return watch.logs(Folder(results / name), mode=mode_of(**output))


@cli.command(short_help="End the jobs of a sweep.")
@click.argument("name")
@results_option
@output_options
def cancel(name: str, results: Path, **output: bool) -> int:
    """End the jobs of sweep NAME; what is done stays, and resume continues.

    Example: sweep cancel demo
    """
    from orchestrator import watch

    return watch.cancel(Folder(results / name), mode=mode_of(**output))


@cli.command(short_help="Write the tables of a sweep.")
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


cli.add_command(index)
