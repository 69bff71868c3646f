"""Tries every setting of every tuned arm on development seeds: `python -m tests.science.tuning`.

One rule for all arms chooses among `settings.TRIED` settings each, in the base world. What it gives
is written into `settings.py` by hand and frozen by a commit; `report` shows the table.
"""

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd

from tests.science import frozen, settings, work
from tests.science.settings import ARMS, MARGIN, TRIED, TUNING_SEEDS, Arm

TABLE = Path("results/bench/science-tuning.csv")


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("results/science"), show_default=True
)
@click.option("--minutes", default=60.0, show_default=True, help="Longest time.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--only", default="", help="Names of arms, with commas; default: all.")
@click.option("--write", is_flag=True, help="Keep the table as results/bench/science-tuning.csv.")
def main(out: Path, minutes: float, workers: int, only: str, write: bool) -> None:
    """Try all settings and show which the rule chooses."""
    arms = [arm for arm in ARMS if arm.tried and (not only or arm.name in only.split(","))]
    grid = json.dumps([(arm.name, arm.change, arm.tried) for arm in arms])
    plan = work.Plan(
        settings=f"{settings.SIMULATION} {settings.TRIAL} {grid}",
        commit=frozen.commit(),
        cohorts=[(settings.WORLDS[0], seed) for seed in TUNING_SEEDS],
        arms=[(arm, number) for arm in arms for number in range(len(arm.tried))],
    )
    try:
        found = work.compute(plan, out / "tuning", workers=workers, minutes=minutes, say=click.echo)
    except work.ScienceError as error:
        raise click.ClickException(str(error)) from error
    if len(found) < len(plan.cohorts):
        click.echo(f"INCOMPLETE: {len(found)} of {len(plan.cohorts)} cohorts")
        sys.exit(1)
    tried = table(found, arms)
    click.echo(markdown(tried))
    if write:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        tried.to_csv(TABLE, index=False, float_format="%.4f")


def section() -> str:
    """Write the part of the report on what was tried, from the kept table."""
    if not TABLE.exists():
        return "The table of tried settings is not there: `python -m tests.science.tuning --write`."
    return (
        f"On {len(TUNING_SEEDS)} development cohorts (seeds {TUNING_SEEDS[0]} to "
        f"{TUNING_SEEDS[-1]}) of the base world, {TRIED} settings an arm; bold: the least "
        f"inconsistent whose AUROC is within {MARGIN} of the arm's best. Arms that are not here "
        "copy another arm's setting.\n\n" + markdown(pd.read_csv(TABLE))
    )


def table(found: Sequence[work.Stored], arms: Sequence[Arm]) -> pd.DataFrame:
    """Sum up over cohorts, a row per arm and setting; `chosen` marks what the rule takes."""
    rows = pd.DataFrame([record for each in found for record in each["records"]])
    rows["log"] = np.log(rows["inconsistency"].astype(float))
    means = rows.groupby(["arm", "setting"], sort=False)[["auroc", "log"]].mean()
    lines = []
    for arm in arms:
        auroc = means.loc[arm.name, "auroc"].to_list()
        inconsistency = np.exp(means.loc[arm.name, "log"]).to_list()
        best = choose(auroc, inconsistency)
        for number, change in enumerate(arm.tried):
            lines.append(
                {
                    "arm": arm.name,
                    "setting": brief(change),
                    "auroc": auroc[number],
                    "inconsistency": inconsistency[number],
                    "chosen": number == best,
                    "used": number == arm.chosen,
                }
            )
    return pd.DataFrame(lines)


def choose(auroc: Sequence[float], inconsistency: Sequence[float]) -> int:
    """Choose the least inconsistent setting whose AUROC is within `MARGIN` of the best one's."""
    known = [not math.isnan(value) for value in auroc]
    best = max(value for value, there in zip(auroc, known, strict=True) if there)
    near = [
        number for number, there in enumerate(known) if there and auroc[number] >= best - MARGIN
    ]
    return min(near, key=lambda number: inconsistency[number])


def brief(change: settings.Change) -> str:
    """Say a change in few words."""
    words = []
    for name, value in change.items():
        if name == "losses":
            for loss in value:
                kind = f"{loss['kind']} " if len(value) > 1 else ""
                words.append(kind + brief(loss))
        elif isinstance(value, dict):
            words.append(brief(value))
        elif name not in ("kind", "discriminator_dims", "form"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)


def markdown(found: pd.DataFrame) -> str:
    """Write the table, a row per arm: each tried setting with its two numbers."""
    lines = ["| arm | tried: AUROC / inconsistency |", "| --- | --- |"]
    for arm, rows in found.groupby("arm", sort=False):
        cells = []
        for row in rows.itertuples():
            text = f"{row.setting}: {_short(row.auroc)} / {row.inconsistency:.2f}"
            mark = "" if row.chosen == row.used else " (!)"
            cells.append((f"**{text}**" if row.chosen else text) + mark)
        lines.append(f"| {arm} | {'; '.join(cells)} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


if __name__ == "__main__":
    main(prog_name="python -m tests.science.tuning")
