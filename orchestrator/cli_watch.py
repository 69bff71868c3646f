"""The commands that look after a sweep: `sweep status`, `sweep logs`, `sweep cancel`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder


@click.command(short_help="Show how far a sweep is.")
@click.argument("name")
@results_option
@output_options
def status(name: str, results: Path, **output: bool) -> int:
    """Show how far sweep NAME is. Reads small files and asks SLURM once.

    Example: sweep status demo
    """
    from orchestrator import watch

    return watch.status(Folder(results / name), mode=mode_of(**output))


@click.command(short_help="Show failures by traceback.")
@click.argument("name")
@results_option
@output_options
def logs(name: str, results: Path, **output: bool) -> int:
    """Show the failures of sweep NAME, grouped by traceback, and where the job logs are.

    Example: sweep logs demo
    """
    from orchestrator import watch

    return watch.logs(Folder(results / name), mode=mode_of(**output))


@click.command(short_help="End the jobs of a sweep.")
@click.argument("name")
@results_option
@output_options
def cancel(name: str, results: Path, **output: bool) -> int:
    """End the jobs of sweep NAME; what is done stays, and resume continues.

    Example: sweep cancel demo
    """
    from orchestrator import watch

    return watch.cancel(Folder(results / name), mode=mode_of(**output))
