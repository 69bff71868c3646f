"""The test bed's commands: `python -m cluster.testbed install|up|down|status`.

What a shell can use goes to stdout (`eval "$(python -m cluster.testbed up)"`), the rest to stderr.
Exit codes: 0 fine, 1 it does not run (status), 2 usage, 3 it cannot run here or does not come up.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from cluster.errors import ClusterError
from cluster.testbed import layout, lifecycle, packages
from cluster.testbed.lifecycle import Report

CANNOT = 3
T = TypeVar("T")

_directory = click.option(
    "--dir",
    "root",
    type=click.Path(path_type=Path),
    help="The test bed's directory; by default $SWEEP_TESTBED, or one per user in the temporary "
    "directory.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group()
def main() -> None:
    """A real SLURM on this machine, for tests."""


@main.command()
@_as_json
def install(*, as_json: bool) -> None:
    """Install the Debian packages that are missing (as root)."""
    installed = _or_exit(packages.install, as_json=as_json)
    if as_json:
        click.echo(json.dumps({"installed": installed}))
    else:
        click.echo(f"installed: {' '.join(installed) or 'nothing was missing'}", err=True)


@main.command()
@_directory
@_as_json
def up(*, root: Path | None, as_json: bool) -> None:
    """Start the test bed, or what of it does not run."""
    report = _or_exit(lambda: lifecycle.up(root or layout.default_root()), as_json=as_json)
    _show(report, as_json=as_json)


@main.command()
@_directory
@_as_json
def down(*, root: Path | None, as_json: bool) -> None:
    """Cancel the test bed's jobs and end its processes; its files stay."""
    report = _or_exit(lambda: lifecycle.down(root or layout.default_root()), as_json=as_json)
    _show(report, as_json=as_json)


@main.command()
@_directory
@_as_json
def status(*, root: Path | None, as_json: bool) -> None:
    """Show what of the test bed runs; exit code 1 unless all of it does."""
    report = _or_exit(lambda: lifecycle.status(root or layout.default_root()), as_json=as_json)
    if not as_json:
        for name, pid in report.daemons.items():
            click.echo(f"# {name}\t{pid or 'does not run'}")
        for name, state in report.nodes.items():
            click.echo(f"# {name}\t{state}")
    _show(report, as_json=as_json)
    sys.exit(0 if report.healthy else 1)


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        value = {
            "dir": str(report.root),
            "slurm_conf": str(report.slurm_conf),
            "healthy": report.healthy,
            "daemons": report.daemons,
            "nodes": report.nodes,
            "changed": list(report.changed),
            "seconds": report.seconds,
        }
        click.echo(json.dumps(value))
        return
    if report.healthy:
        click.echo(report.export)
    what = " ".join(report.changed) or "nothing"
    click.echo(f"{report.root}: changed {what} in {report.seconds:.1f} s", err=True)


def _or_exit(action: Callable[[], T], *, as_json: bool) -> T:
    try:
        return action()
    except ClusterError as error:
        if as_json:
            click.echo(json.dumps({"error": error.message, "hint": error.hint}))
        else:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            click.echo(f"error: {error.message}{hint}", err=True)
        sys.exit(CANNOT)


if __name__ == "__main__":
    main(prog_name="python -m cluster.testbed")
