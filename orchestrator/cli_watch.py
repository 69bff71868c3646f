"""The commands that look after a sweep: `sweep status logs hold cancel`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option
from orchestrator.folder import Folder


@click.command(short_help="Show how far a sweep is.")
@click.argument("name")
@click.option("--watch", is_flag=True, help="Show it again every 30 s until nothing runs.")
@click.option("--failed", is_flag=True, help="List the trials that were given up.")
@click.option("--trial", metavar="ID", help="Show one trial; the start of its id is enough.")
@click.option("--check", is_flag=True, help="Read every segment and every event.")
@results_option
@output_options
def status(
    name: str,
    watch: bool,
    failed: bool,
    trial: str | None,
    check: bool,
    results: Path,
    **output: bool,
) -> int:
    """Show how far sweep NAME is. Reads small files and asks SLURM once.

    Example: sweep status demo --watch
    """
    from orchestrator import detail
    from orchestrator import watch as watching

    _one_of(watch=watch, failed=failed, trial=trial is not None, check=check)
    folder, mode = Folder(results / name), mode_of(**output)
    if watch:
        return watching.follow(folder, mode=mode)
    if failed:
        return detail.failed(folder, mode=mode)
    if trial is not None:
        return detail.trial(folder, trial, mode=mode)
    return detail.check(folder, mode=mode) if check else watching.status(folder, mode=mode)


@click.command(short_help="Show failures by traceback, and logs.")
@click.argument("name")
@click.argument("trial", required=False)
@click.option("--failed", is_flag=True, help="Only failures of trials that were given up.")
@click.option("--driver", is_flag=True, help="The last lines of the driver job's log.")
@click.option("--follow", is_flag=True, help="Show what happens, as it does, until nothing runs.")
@results_option
@output_options
def logs(
    name: str,
    trial: str | None,
    failed: bool,
    driver: bool,
    follow: bool,
    results: Path,
    **output: bool,
) -> int:
    """Show the failures of sweep NAME, grouped by traceback, or all about one TRIAL.

    Example: sweep logs demo --failed
    """
    from orchestrator import logs as reading

    _one_of(trial=trial is not None, failed=failed, driver_or_follow=driver or follow)
    folder, mode = Folder(results / name), mode_of(**output)
    if trial is not None:
        return reading.of_trial(folder, trial, mode=mode)
    if follow:
        from orchestrator import stream

        return stream.follow(folder, with_driver=driver, mode=mode)
    if driver:
        return reading.driver(folder, mode=mode)
    return reading.failures(folder, given_up=failed, mode=mode)


@click.command(short_help="Let nothing further start.")
@click.argument("name")
@click.option("--release", is_flag=True, help="Let a held sweep go on.")
@results_option
@output_options
def hold(name: str, release: bool, results: Path, **output: bool) -> int:
    """Let no further pack of sweep NAME begin; what trains now finishes.

    Example: sweep hold demo --release
    """
    from orchestrator import watch

    return watch.hold(Folder(results / name), release=release, mode=mode_of(**output))


@click.command(short_help="End the jobs of a sweep, or give up some cells.")
@click.argument("name")
@click.option(
    "--where",
    multiple=True,
    metavar="KEY=VALUE",
    help="Give up the trials of these cells only; several conditions must all hold.",
)
@results_option
@output_options
def cancel(name: str, where: tuple[str, ...], results: Path, **output: bool) -> int:
    """End the jobs of sweep NAME; what is done stays, and resume continues.

    With --where nothing ends but the training of the cells that match.

    Example: sweep cancel demo --where arm=infonce --where fold=0
    """
    from orchestrator import watch

    return watch.cancel(Folder(results / name), where=where, mode=mode_of(**output))


def _one_of(**given: bool) -> None:
    names = [name.replace("_or_", ", ") for name, asked in given.items() if asked]
    if len(names) > 1:
        raise click.UsageError(f"only one at a time of: {', '.join(names)}")
