"""From the cohorts' records to comparisons with the reference arm and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from tests.science import statistics
from tests.science.cohort import METRICS, frame
from tests.science.settings import ARMS, MARGIN, REFERENCE, WORLDS
from tests.science.statistics import Estimate
from tests.science.work import Stored

SCALES = ("inconsistency", "seen_inconsistency", "oracle_distance", "scanner_ratio")
"""Metrics that are compared by their ratio."""

VERDICTS = {
    "+": "less inconsistent, with an AUROC that is not lower by the margin",
    "(+)": "less inconsistent, with an AUROC that may be lower by the margin or not",
    "±": "less inconsistent, at the cost of AUROC",
    "a": "a higher AUROC, no less inconsistent",
    "·": "no difference",
    "−": "more inconsistent, or a lower AUROC without less inconsistency",
    "0": "consistent by construction",
}


class Cohorts:
    """All records: arrays by world, arm and metric, in the order of the seeds.

    Args:
        found: what was computed.
    """

    def __init__(self, found: Sequence[Stored]) -> None:
        rows = pd.concat(
            [
                frame(each["records"]).assign(world=each["world"], seed=each["seed"])
                for each in found
            ]
        )
        self.seeds = sorted(set(rows["seed"]))
        self.failures: dict[str, int] = {}
        for name in rows.loc[rows["failure"] != "", "arm"]:
            self.failures[name] = self.failures.get(name, 0) + 1
        self._tables = {
            metric: rows.pivot(index="seed", columns=["world", "arm"], values=metric)
            for metric in METRICS
        }

    def of(self, world: str, arm: str, metric: str) -> Float[ndarray, " cohort"]:
        """Give what an arm had in each cohort of a world."""
        return self._tables[metric][world, arm].to_numpy(np.float64)

    def mean(self, world: str, arm: str, metric: str) -> float:
        """Average over cohorts; scales geometrically."""
        values = self.of(world, arm, metric)
        values = values[~np.isnan(values)]
        if not len(values):
            return np.nan
        if metric not in SCALES:
            return float(values.mean())
        with np.errstate(divide="ignore"):
            return float(np.exp(np.log(values).mean()))

    def against(
        self, world: str, arm: str, metric: str, reference: str = REFERENCE
    ) -> Float[ndarray, " cohort"]:
        """Compare with another arm in each cohort: the difference, or the log ratio of a scale."""
        mine, other = self.of(world, arm, metric), self.of(world, reference, metric)
        return statistics.log_ratio(mine, other) if metric in SCALES else mine - other


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an arm does in a world, against the reference.

    Args:
        symbol: see `VERDICTS`.
        sure: the inconsistency differs after Holm over the world's arms.
        ratio: log ratio of the inconsistency.
        auroc: difference of the AUROC.
    """

    symbol: str
    sure: bool
    ratio: Estimate
    auroc: Estimate


def others() -> list[str]:
    """Name the arms that are compared with the reference."""
    return [arm.name for arm in ARMS if arm.name != REFERENCE]


def verdicts(cohorts: Cohorts) -> dict[tuple[str, str], Verdict]:
    """Judge every arm in every world."""
    found = {}
    for world in (world.name for world in WORLDS):
        ratios = [
            statistics.estimate(cohorts.against(world, arm, "inconsistency")) for arm in others()
        ]
        adjusted = statistics.holm(np.array([ratio.p for ratio in ratios]))
        for arm, ratio, p in zip(others(), ratios, adjusted, strict=True):
            auroc = statistics.estimate(cohorts.against(world, arm, "auroc"))
            zero = bool((cohorts.of(world, arm, "inconsistency") == 0).all())
            symbol = "0" if zero else judge(ratio, auroc)
            found[world, arm] = Verdict(
                symbol=symbol, sure=bool(p < 0.05), ratio=ratio, auroc=auroc
            )
    return found


def judge(ratio: Estimate, auroc: Estimate) -> str:
    """Choose the symbol of `VERDICTS` from the two intervals."""
    if ratio.high < 0:
        if auroc.low > -MARGIN:
            return "+"
        return "±" if auroc.high < 0 else "(+)"
    if ratio.low > 0 or auroc.high < 0:
        return "−"
    return "a" if auroc.low > 0 else "·"


def table(cohorts: Cohorts) -> pd.DataFrame:
    """Tabulate all worlds and arms: means, and comparisons with the reference with intervals."""
    lines = []
    for world in (world.name for world in WORLDS):
        for arm in (arm.name for arm in ARMS):
            line: dict[str, object] = {"world": world, "arm": arm}
            for metric in METRICS:
                line[metric] = cohorts.mean(world, arm, metric)
                compared = statistics.estimate(cohorts.against(world, arm, metric))
                kind = "ratio" if metric in SCALES else "difference"
                for name in ("mean", "low", "high"):
                    value = getattr(compared, name)
                    line[f"{metric}_{kind}_{name}"] = np.exp(value) if kind == "ratio" else value
            line["cohorts"] = int((~np.isnan(cohorts.of(world, arm, "auroc"))).sum())
            lines.append(line)
    return pd.DataFrame(lines)
