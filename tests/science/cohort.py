"""One cohort of one world: its data, its trials, and what they measure on the test cohort."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import measure
from tests.science.settings import (
    ARMS,
    AUGMENTED_VIEWS,
    ENCODER,
    INITIALISATIONS,
    ORACLE,
    SIMULATION,
    TRIAL,
    UNSEEN,
    Arm,
    Change,
    World,
)
from training import simulate
from training.config import TrialConfig, lane_key
from training.data import bags, index, shards
from training.data.index import Dataset
from training.metrics import controlled_shift, robustness
from training.simulated_world import Encoder
from training.simulation_config import Simulation
from training.trainer import LaneResult, train

METRICS = (
    "auroc", "worst_scanner_auroc", "unseen_scanner_auroc", "inconsistency", "seen_inconsistency",
    "flip_rate", "oracle_distance", "scanner_ratio",
)  # fmt: skip

Record = dict[str, Any]
"""An arm in a cohort: its name, the number of its setting, its metrics, why it failed if it did."""


def compute(
    world: World, seed: int, scratch: Path, *, settings: Sequence[tuple[Arm, int]] | None = None
) -> list[Record]:
    """Simulate a cohort, train and measure.

    Args:
        world: which world.
        seed: which cohort of it.
        scratch: folder for the data, new; the caller removes it.
        settings: arms and the number of their setting; default: all arms as chosen.
    """
    wanted = [(arm, arm.chosen) for arm in ARMS] if settings is None else list(settings)
    configs = {
        (arm.name, setting): trials(world, arm, seed, setting=setting) for arm, setting in wanted
    }
    augmented = any(each[0].pairs == "augmented" for each in configs.values())
    dataset = write_data(simulation(world, seed, augmented=augmented), scratch)
    lanes: dict[str, list[tuple[tuple[str, int], TrialConfig]]] = {}
    for key, lane_configs in configs.items():
        for config in lane_configs:
            lanes.setdefault(lane_key(config), []).append((key, config))
    found: dict[tuple[str, int], list[LaneResult]] = {key: [] for key in configs}
    for group in lanes.values():
        results = train([config for _, config in group], dataset)
        for (key, _), result in zip(group, results, strict=True):
            found[key].append(result)
    return [_record(name, setting, found[name, setting]) for name, setting in configs]


def simulation(world: World, seed: int, *, augmented: bool) -> Simulation:
    """Give the configuration of a cohort's data; views, where wanted, move nothing else."""
    views = {"augmented_views": AUGMENTED_VIEWS if augmented else 0}
    return Simulation.model_validate(
        {**_merged(SIMULATION, world.simulation), **views, "seed": seed}
    )


def trials(world: World, arm: Arm, seed: int, *, setting: int) -> list[TrialConfig]:
    """Give the trials of an arm in a cohort, one per initialisation."""
    fields = _merged(TRIAL, change(arm, setting), world.change)
    return [
        TrialConfig.model_validate({**fields, "seed": each, "draw_seed": seed})
        for each in INITIALISATIONS
    ]


def change(arm: Arm, setting: int | None = None) -> dict[str, Any]:
    """Resolve what an arm changes, with its chosen setting unless another is named."""
    if arm.copies:
        (original,) = (each for each in ARMS if each.name == arm.copies)
        return _merged(change(original), arm.change)
    tried = arm.tried[arm.chosen if setting is None else setting]
    return _merged(arm.change, tried)


def write_data(config: Simulation, root: Path) -> Dataset:
    """Write a cohort, and beside its test slides what no scanner touched.

    A scan of the oracle is a slide of its own, so that nothing averages it with real scans.
    """
    simulate.write(config, root / "scans")
    scans = index.read(root / "scans")
    reader = bags.BagReader(root / "scans")
    rows = {str(row.view): row for row in scans.index.itertuples(index=False)}
    encoder = Encoder(config, ENCODER)
    slides = {
        f"{slide.name}-{ORACLE}": slide
        for slide in simulate.slides(config)
        if slide.cohort == "test"
    }
    clean = {name: simulate.bag(encoder, slide, None) for name, slide in slides.items()}

    def load(view: shards.View) -> bags.Bag:
        if view.view in clean:
            return clean[view.view]
        row = rows[view.view]
        return bags.Bag(
            embeddings=reader.embeddings(row), tile=reader.tiles(row), coords=reader.coords(row)
        )

    names = [name for name in shards.View.__dataclass_fields__ if name in scans.index.columns]
    views = [
        *(shards.View(**{name: getattr(row, name) for name in names}) for row in rows.values()),
        *(_oracle(name, slides[name], bag) for name, bag in clean.items()),
    ]
    shards.write(root / "all", encoder=ENCODER, views=views, load=load, cases=scans.cases)
    return index.read(root / "all")


def _oracle(name: str, slide: simulate.Slide, bag: bags.Bag) -> shards.View:
    return shards.View(
        patient=slide.patient, slide=name, scan=name, view=name, scanner=ORACLE, site=slide.site,
        stain="H&E", cohort=slide.cohort, routine=True, num_tiles=len(bag.tile),
        dim=bag.embeddings.shape[1],
    )  # fmt: skip


def _merged(*layers: Change) -> dict[str, Any]:
    """Lay mappings over each other, inner ones too."""
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            inner = found.get(name)
            nested = isinstance(inner, Mapping) and isinstance(value, Mapping)
            found[name] = _merged(inner, value) if nested else value
    return found


def _record(name: str, setting: int, results: Sequence[LaneResult]) -> Record:
    failures = sorted({result.failure for result in results} - {""})
    values: dict[str, float] = dict.fromkeys(METRICS, math.nan)
    if not failures:
        each = pd.DataFrame([measured(result) for result in results])
        values |= {metric: float(each[metric].mean(skipna=False)) for metric in METRICS}
    known = {name: None if math.isnan(value) else value for name, value in values.items()}
    return {"arm": name, "setting": setting, "failure": "; ".join(failures), **known}


def measured(result: LaneResult) -> dict[str, float]:
    """Measure a trial on the test cohort, against the oracle too."""
    table = result.predictions[result.predictions["held_out"]].assign(trial="it")
    real = table[table["scanner"] != ORACLE]
    threshold = pd.Series([result.threshold], index=["it"])
    found = measure.trials(threshold, real, unseen=[(UNSEEN,)]).iloc[0].to_dict()
    scores = real.pivot(index="slide", columns="scanner", values="score")
    clean = table[table["scanner"] == ORACLE].set_index("slide")["score"]
    reference = clean.reindex([f"{slide}-{ORACLE}" for slide in scores.index])
    moved = scores.to_numpy(np.float64)
    seen = scores.drop(columns=UNSEEN).to_numpy(np.float64)
    found["seen_inconsistency"] = robustness.inconsistency(seen)
    found["oracle_distance"] = float(
        controlled_shift.distance(moved, reference.to_numpy(np.float64))
    )
    found["scanner_ratio"] = float(controlled_shift.scanner_ratio(moved))
    return {metric: float(found[metric]) for metric in METRICS}


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Tabulate records; what is missing becomes NaN."""
    table = pd.DataFrame(list(records))
    return table.astype(dict.fromkeys(METRICS, np.float64))
