"""GPU-hours by arm, failures by class and SLURM jobs, from events written by hand."""

import pandas as pd
import pytest

from orchestrator import costs, events

HOUR = "2026-01-01T0{}:00:00+00:00"


def event(name, hour, **fields):
    return {"event": name, "time": HOUR.format(hour), "writer": "w", **fields}


TOLD = [
    event("planned", 0, trials=["a", "b", "c"], cells=2, packs={"p": ["a", "b"], "q": ["c"]},
          retried=[]),
    event("submitted", 0, role="driver", job="1"),
    event("submitted", 0, role="pilot", job="2", gpus=2.0),
    event("started", 1, job="2", node="n1", gpus=2.0, size="normal", walltime_s=36000.0),
    event("failed", 2, pack="q", attempt=1, failure="gpu_memory", message="m", final=False),
    event("accepted", 3, pack="p", attempt=1, failed={"b": "numeric"}, seconds=1800.0),
    event("failed", 3, pack="q", attempt=2, failure="gpu_memory", message="m", final=True),
    event("left", 4, job="2", reason="time limit", seconds=10800.0),
]  # fmt: skip
PLAN = pd.DataFrame({"trial": ["a", "a", "b", "c"], "arm": ["erm", "again", "score", "score"]})
TRIALS = pd.DataFrame({"trial": ["a", "b"], "seconds": [1350.0, 450.0], "device": "H100"})


def state():
    return events.fold(TOLD, [("p", 1)])


def test_gpu_hours_are_divided_as_training_time_is_and_a_shared_trial_counts_once():
    found = costs.count(TOLD, state(), PLAN, TRIALS)
    assert found.gpu_hours == pytest.approx(6.0)
    assert found.training_hours == pytest.approx(0.5)
    assert found.devices == ("H100",)
    assert found.arms["arm"].to_list() == ["erm", "score"]
    assert found.arms["gpu_hours"].to_list() == pytest.approx([4.5, 1.5])
    assert found.arms["trials"].to_list() == [1, 1]
    assert (found.began, found.ended) == (HOUR.format(0), HOUR.format(4))


def test_a_sweep_without_results_or_events_costs_nothing():
    found = costs.count([], events.fold([], []), PLAN, pd.DataFrame({"trial": []}))
    assert (found.gpu_hours, found.training_hours, found.began) == (0, 0, "")
    assert found.arms.empty or not found.arms["training_hours"].any()


def test_failures_are_counted_by_class_with_what_was_given_up():
    found = costs.failures(TOLD, state()).set_index("failure")
    assert found.loc["gpu_memory", ["attempts", "lanes", "given_up"]].to_list() == [2, 0, 1]
    assert found.loc["numeric", ["attempts", "lanes", "given_up"]].to_list() == [0, 1, 1]
    assert found.loc["numeric", "meaning"] == "loss not finite"
    assert costs.failures([], events.fold([], [])).empty


def test_jobs_are_listed_in_the_order_of_submission_with_how_they_ended():
    found = costs.jobs(state())
    assert found["job"].to_list() == ["1", "2"]
    assert found.loc[1, ["node", "gpus", "hours", "ended"]].to_list() == [
        "n1",
        2.0,
        3.0,
        "time limit",
    ]
