"""Chaos on the test bed: `python -m tests.chaos --seed 1 --faults 200 --minutes 60 --out DIR`.

Several sweeps, one after the other, each disturbed by faults that a seeded generator drew; after
each one everything is checked. Started again with the same folder it goes on with the next sweep.
"""

import json
import sys
import time
from pathlib import Path

import click

from cluster.testbed import layout, lifecycle
from tests.chaos import campaign, report
from tests.chaos.conduct import ChaosError


@click.command()
@click.option("--seed", default=1, show_default=True, help="Draws faults, moments and victims.")
@click.option("--faults", default=200, show_default=True, help="Faults that must have happened.")
@click.option("--minutes", default=60.0, show_default=True, help="Longest time, in all.")
@click.option("--per-sweep", default=34, show_default=True, help="Faults drawn for a sweep.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results/chaos"), show_default=True
)
@click.option("--setting", help="Only sweeps of this setting: plain, grace, disk, ...")
def main(
    seed: int, faults: int, minutes: float, per_sweep: int, out: Path, setting: str | None
) -> None:
    """Disturb sweeps until enough faults happened, and check every promise after each."""
    began = time.monotonic()
    bed = lifecycle.up(layout.default_root())
    place = campaign.Place(out=out.resolve(), bed=bed.root, slurm_conf=bed.slurm_conf)
    kept = campaign.read_state(place, seed)
    try:
        while True:
            count = sum(row["answer"] == "applied" for sweep in kept for row in sweep["faults"])
            left = 60 * minutes - (time.monotonic() - began)
            if count >= faults or (kept and left < campaign.SWEEP_S):
                break
            click.echo(f"{len(kept)} sweeps, {count} faults, {left / 60:.0f} minutes left")
            number = len(kept)
            kept.append(
                campaign.run(
                    place, seed, number, per_sweep=per_sweep, left_s=left, only=setting,
                    say=click.echo,
                )
            )  # fmt: skip
    except ChaosError as error:
        click.echo(f"BROKEN  seed {seed}, sweep {len(kept)}, folder {place.sweep(len(kept))}")
        click.echo(str(error))
        sys.exit(1)
    _sum_up(kept, seed, time.monotonic() - began)
    sys.exit(0 if count >= faults else 1)


def _sum_up(kept: list[campaign.Record], seed: int, seconds: float) -> None:
    rows = [row for sweep in kept for row in sweep["faults"]]
    trials = sum(sweep["trials"] for sweep in kept)
    inside = sum(sweep["seconds"] for sweep in kept)
    click.echo(report.markdown(rows))
    click.echo(
        f"\nseed {seed}: {len(kept)} sweeps, {trials} trials, "
        f"{sum(sweep['resumes'] for sweep in kept)} resumes, "
        f"{sum(sweep['attempts'] - sweep['packs'] for sweep in kept)} further attempts at "
        f"{sum(sweep['packs'] for sweep in kept)} packs, "
        f"{sum(sweep['late'] for sweep in kept)} late segments, "
        f"{sum(sweep['stuck'] for sweep in kept)} times stuck, "
        f"{sum(sweep['scratch'] for sweep in kept)} scratch folders left; "
        f"{inside / 60:.1f} minutes of sweeps, {seconds / 60:.1f} minutes in this call"
    )
    click.echo(json.dumps({"ok": True, "sweeps": len(kept), "faults": len(rows)}), err=True)


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
