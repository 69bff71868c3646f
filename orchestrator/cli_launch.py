"""The commands that start work: `sweep launch`, `sweep resume`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cluster.errors import NoProfileError
from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder

RETRY = ("data", "numeric", "cancelled", "damaged")


def _launch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options: list[Callable[..., Any]] = [
        click.option(
            "--cluster",
            envvar="SWEEP_CLUSTER",
            show_envvar=True,
            help="Profile; default: to resume, the last one; else the spec's, else your own.",
        ),
        click.option(
            "-n", "--dry-run", is_flag=True, help="Check, plan and price; submit nothing."
        ),
        click.option("-y", "--yes", is_flag=True, help="Spend GPU time without asking."),
        click.option("--script", is_flag=True, help="Show the batch scripts too."),
        click.option(
            "--foreground",
            is_flag=True,
            help="Train inside the allocation of this shell, and wait.",
        ),
        click.option(
            "--probe",
            is_flag=True,
            help="Train one pack of each kind of unknown price, with one pilot, and end.",
        ),
        click.option(
            "--max-gpu-hours", type=float, metavar="FLOAT", help="Stop at so many GPU hours."
        ),
        results_option,
        output_options,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command(short_help="Train what is missing of a spec.")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--cancel-removed",
    is_flag=True,
    help="Give up trials that the spec has no longer; packs in training end if all theirs are.",
)
@_launch_options
def launch(spec: Path, cancel_removed: bool, **chosen: Any) -> int:
    """Train what is missing of SPEC, or hand what is new to the driver that runs.

    Example: sweep launch sweeps/full.yaml --cluster slurm_a100 --dry-run
    """
    return _launch(spec, cancel_removed=cancel_removed, **chosen)


@click.command(short_help="Train what failed or is missing of a sweep.")
@click.argument("name")
@click.option(
    "--retry",
    multiple=True,
    type=click.Choice(RETRY),
    help="Train again what failed in this way, or has results that cannot be read (damaged); "
    "other failures always are.",
)
@_launch_options
def resume(name: str, retry: tuple[str, ...], results: Path, **chosen: Any) -> int:
    """Train exactly what failed or is missing of sweep NAME, from its stored spec.

    Example: sweep resume demo
    """
    from orchestrator import commands, preparation

    folder = Folder(results / name)
    commands.require_own_spec(folder)
    named, last = chosen.pop("cluster"), preparation.last_cluster(folder)
    source = click.get_current_context().get_parameter_source("cluster")
    cluster = named if source is ParameterSource.COMMANDLINE else last or named
    return _launch(folder.spec, cluster=cluster, retry=retry, results=results, **chosen)


def _launch(
    spec: Path,
    *,
    cluster: str | None,
    results: Path,
    probe: bool,
    foreground: bool,
    max_gpu_hours: float | None,
    retry: tuple[str, ...] = (),
    cancel_removed: bool = False,
    dry_run: bool,
    script: bool,
    yes: bool,
    **output: bool,
) -> int:
    from orchestrator import commands, doctor
    from orchestrator.preparation import Options

    mode = mode_of(**output)
    start = partial(
        commands.launch,
        spec,
        results=results,
        cluster=cluster,
        options=Options(
            retry=retry, probe=probe, foreground=foreground, max_gpu_hours=max_gpu_hours
        ),
        dry_run=dry_run,
        script=script,
        yes=yes,
        cancel_removed=cancel_removed,
        mode=mode,
    )
    try:
        return start()
    except NoProfileError:
        if mode != "text" or not doctor.offer():
            raise
    return start()
