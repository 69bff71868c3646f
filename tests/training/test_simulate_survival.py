"""Simulated outcomes: the truth that was asked for, and nothing else moved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training import simulate
from training.config_task import Task
from training.data import index
from training.metrics.hazard import grouped_log_hazard_ratio
from training.simulation_config import SimulatedEncoder, SimulatedSurvival, Simulation

SMALL = Simulation(
    dev_patients=10,
    test_patients=6,
    min_tiles=5,
    max_tiles=12,
    encoders={"one": SimulatedEncoder(dim=8)},
)


def drawn(num: int = 6000, **fields: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    settings, label = SimulatedSurvival.model_validate(fields), np.arange(num) % 2
    told = [
        simulate.outcome(SMALL, settings, f"p{number}", int(label[number])) for number in range(num)
    ]
    return (*(np.array(each) for each in zip(*told, strict=True)), label)


def with_survival(**fields: object) -> Simulation:
    return Simulation.model_validate(SMALL.model_dump() | {"survival": fields})


def test_hazards_are_proportional_with_the_ratio_that_was_asked_for() -> None:
    time, event, label = drawn(log_hazard_ratio=0.9)
    group = np.zeros(len(time), dtype=np.int64)
    found = grouped_log_hazard_ratio(time, event, label.astype(float), group, 1)[0]
    assert found / label.std(ddof=1) == pytest.approx(0.9, abs=0.08)


def test_without_censoring_the_median_and_the_shape_are_those_that_were_asked_for() -> None:
    given = {
        "log_hazard_ratio": 0.0,
        "median": 10.0,
        "shape": 2.0,
        "followup": 1e6,
        "lost_share": 0.0,
    }
    time, event, _ = drawn(**given)
    assert event.all() and np.median(time) == pytest.approx(10, rel=0.03)
    # Weibull: log(-log S) is linear in log t, with the shape as its slope.
    quarters = np.quantile(time, [0.25, 0.75])
    slope = np.log(np.log(0.25) / np.log(0.75)) / np.log(quarters[1] / quarters[0])
    assert slope == pytest.approx(2.0, rel=0.05)


def test_patients_are_lost_and_follow_up_ends() -> None:
    time, event, _ = drawn(median=1e5, followup=12.0, lost_share=0.3)
    assert not event[time == 12].any() and (time <= 12).all()
    assert (time < 12).mean() == pytest.approx(0.3, abs=0.02)
    steps, event, _ = drawn(step=3.0)
    assert (steps % 3 == 0).all() and steps.min() >= 3 and event.mean() > 0.3


def test_outcomes_stand_beside_the_labels_and_move_nothing(tmp_path: Path) -> None:
    simulate.write(SMALL, tmp_path / "without")
    simulate.write(with_survival(), tmp_path / "with")
    for path in sorted((tmp_path / "without").rglob("*")):
        other = tmp_path / "with" / path.relative_to(tmp_path / "without")
        if path.is_file() and path.name != "cases.parquet":
            assert path.read_bytes() == other.read_bytes()
    before, after = (
        pd.read_parquet(tmp_path / name / "cases.parquet") for name in ("without", "with")
    )
    assert list(before.columns) == ["patient", "label", "cohort"]
    assert list(after.columns) == ["patient", "label", "cohort", "time", "event"]
    pd.testing.assert_frame_equal(after[before.columns], before)
    found = index.outcomes(index.read(tmp_path / "with"), Task(kind="survival"))
    settings = SimulatedSurvival()
    for patient, label in zip(after["patient"], after["label"], strict=True):
        time, event = simulate.outcome(SMALL, settings, patient, int(label))
        assert found[patient][:2] == (time, event)
