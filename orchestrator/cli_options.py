"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator.render import Mode


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
        show_envvar=True,
        show_default=True,
        help="Folder of all sweeps.",
    )(command)


def mode_of(as_json: bool, quiet: bool) -> Mode:
    """Choose the output; JSON wins."""
    return "json" if as_json else "quiet" if quiet else "text"
