"""The command that looks at a site: `sweep doctor`."""

from pathlib import Path

import click

from orchestrator.cli_options import mode_of, output_options, results_option


@click.command(short_help="Look at this site, and propose a profile.")
@click.option(
    "--cluster",
    envvar="SWEEP_CLUSTER",
    show_envvar=True,
    help="A profile to compare with the site.",
)
@click.option("--write", is_flag=True, help="Write the proposed profile as your default.")
@click.option("-y", "--yes", is_flag=True, help="Write without asking.")
@results_option
@output_options
def doctor(cluster: str | None, write: bool, yes: bool, results: Path, **output: bool) -> int:
    """Say what this site is and what sweep will do there. Submits nothing.

    Example: sweep doctor --write
    """
    from orchestrator import doctor as doctoring

    return doctoring.run(
        results=results, cluster=cluster, write=write, yes=yes, mode=mode_of(**output)
    )
