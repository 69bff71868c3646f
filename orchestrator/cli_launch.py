"""The commands that start work: `sweep launch`, `sweep resume`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder


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


@click.command(short_help="Train what is missing of a spec.")
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


@click.command(short_help="Train what failed or is missing of a sweep.")
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
