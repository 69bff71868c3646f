"""Records as cohorts would leave them, from known effects: for tests of what is said about them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.science.settings import ARMS, WORLDS
from tests.science.work import Stored

NUM_COHORTS = 8


def found(effects: Mapping[tuple[str, str], Mapping[str, float]] | None = None) -> list[Stored]:
    """Draw cohorts in which all arms are alike, but for `effects` by (world, arm).

    An effect is added to a metric, or to the logarithm of a scale.
    """
    rng = np.random.default_rng(7)
    made = []
    for seed in range(NUM_COHORTS):
        for number, world in enumerate(WORLDS):
            shared = rng.normal(0, 0.02)
            records = [_record(arm.name, world.name, shared, rng, effects or {}) for arm in ARMS]
            made.append(
                {
                    "settings": "it", "commit": "abc1234", "world": world.name, "seed": seed,
                    "began": f"2026-11-24T0{seed}:{number:02d}:00+00:00", "seconds": 60.0,
                    "cpu_seconds": 50.0,
                    "records": records,
                }
            )  # fmt: skip
    return made


def _record(
    arm: str,
    world: str,
    shared: float,
    rng: np.random.Generator,
    effects: Mapping[tuple[str, str], Mapping[str, float]],
) -> dict[str, Any]:
    effect = effects.get((world, arm), {})
    centre = 0.5 if world == "shuffled labels" else 0.9 + shared

    def share(metric: str) -> float:
        return centre + float(rng.normal(0, 0.004)) + effect.get(metric, 0.0)

    def scale(metric: str) -> float:
        return math.exp(shared + float(rng.normal(0, 0.05)) + effect.get(metric, 0.0))

    record: dict[str, Any] = {"arm": arm, "setting": 0, "failure": ""}
    for metric in ("auroc", "worst_scanner_auroc", "unseen_scanner_auroc", "flip_rate"):
        record[metric] = share(metric)
    for metric in ("inconsistency", "seen_inconsistency", "oracle_distance", "scanner_ratio"):
        record[metric] = scale(metric)
    if arm == "mean over scans":
        record |= {"inconsistency": 0.0, "seen_inconsistency": 0.0, "scanner_ratio": None}
    return record
