"""Do the losses keep what they promise? `make science`, or `python -m tests.science`.

Simulated worlds, cohorts, arms (`settings`); at most an hour on two cores. A call that is stopped
or killed at any moment is continued by the next one. Ends with 0 when every number is there and the
nulls are honest, whoever wins.
"""

import os

os.environ["MKL_CBWR"] = "AUTO"  # before any product: training.lanes

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.science import frozen, nulls, report, settings, summary, tuning, work


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results/science"),
    show_default=True,
    help="Folder of the cohorts' files.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path("results/README.md"),
    show_default=True,
    help="Page that gets the section.",
)
@click.option("--minutes", default=58.0, show_default=True, help="No cohort begins later.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--development", is_flag=True, help="Development seeds; only shows the section.")
@click.option("--cohorts", type=int, help="With --development: that many cohorts.")
def main(
    out: Path, page: Path, minutes: float, workers: int, development: bool, cohorts: int | None
) -> None:  # fmt: skip
    """Compute what is missing, write the section and say whether the nulls are honest."""
    seeds = settings.REPORTED_SEEDS
    if development:
        seeds, out = settings.DEVELOPMENT_SEEDS[:cohorts], out / "development"
    plan = work.Plan(
        settings=frozen.digest(),
        commit=frozen.commit(),
        cohorts=[(world, seed) for seed in seeds for world in settings.WORLDS],
        arms=[(arm, arm.chosen) for arm in settings.ARMS],
    )
    try:
        if not development:
            frozen.check([])
        found = work.compute(plan, out, workers=workers, minutes=minutes, say=click.echo)
        if missing := len(plan.cohorts) - len(found):
            click.echo(f"INCOMPLETE: {missing} of {len(plan.cohorts)} cohorts; the same goes on")
            sys.exit(1)
        said = "Development seeds." if development else _frozen(found)
    except (work.ScienceError, frozen.ThawedError) as error:
        raise click.ClickException(str(error)) from error
    origin = report.Origin(
        command="make science", settings=said, workers=workers, tuning=tuning.section()
    )
    section, known = report.markdown(found, origin), summary.Cohorts(found)
    if development:
        click.echo(section)
    else:
        report.put(section, page)
        table = page.parent / "bench" / "science.csv"
        table.parent.mkdir(exist_ok=True)
        summary.table(known).to_csv(table, index=False, float_format="%.5g")
    sys.exit(_verdict(known))


def _frozen(found: Sequence[work.Stored]) -> str:
    freeze = frozen.check(found)
    return (
        f"Settings `{freeze.digest}` were frozen in commit `{freeze.commit}` of "
        f"{freeze.time:%Y-%m-%d %H:%M}, before the first cohort of these seeds began."
    )


def _verdict(cohorts: summary.Cohorts) -> int:
    """Say what is wrong, and give the exit code."""
    wrong = [check for check in nulls.checks(cohorts) if not check.honest]
    for check in wrong:
        click.echo(f"NOT HONEST: {check.name}: {check.text}")
    for arm, count in sorted(cohorts.failures.items()):
        click.echo(f"HOLES: training of {arm} failed in {count} cohorts")
    if not wrong and not cohorts.failures:
        click.echo("complete, and the nulls are honest")
    return int(bool(wrong or cohorts.failures))


if __name__ == "__main__":
    main(prog_name="python -m tests.science")
