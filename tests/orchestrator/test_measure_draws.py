"""Draws against the metrics of the sample in which each patient stands as often as it was drawn."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import measure, measure_cases, measure_draws, measure_scanners, measure_survival
from tests.orchestrator.predicted import frame, random_rows

SEEN = ["C"]


def repeated(rows, times):
    """Write the held-out rows of patients as often as they weigh, under new names."""
    made = []
    for _, row in rows[rows["held_out"]].iterrows():
        for copy in range(times[row["patient"]]):
            new = row.copy()
            for name in ("patient", "slide", "view"):
                new[name] = f"{row[name]}/{copy}"
            made.append(new)
    return pd.DataFrame(made, columns=rows.columns)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3]))
def test_a_draw_is_the_metric_of_the_repeated_sample(seed, num_columns):
    random = np.random.default_rng(seed)
    rows = frame(random_rows(random, "t", num_columns))
    threshold = pd.Series({"t": 0.25})
    found = measure_cases.cases(threshold, rows, unseen=[SEEN])
    weight = random.integers(0, 4, size=(len(found.patients), 4)).astype(np.float32)
    weight[:, 0], weight[0] = 1, np.maximum(weight[0], 1)
    made = measure_draws.trials(found, weight, metrics=measure_draws.METRICS)
    for draw in range(4):
        times = dict(zip(found.patients, weight[:, draw].astype(int), strict=True))
        sample = repeated(rows, times)
        again = measure_cases.cases(threshold, sample, unseen=[SEEN])
        each = measure_scanners.by_scanner(again, measure.by_scanner(again))
        expected = {
            **measure_scanners.averaged(again, each).iloc[0],
            **measure_scanners.gaps(again, each).iloc[0],
            **measure.of(again, each).iloc[0],
        }
        for name in made.keys() & expected.keys():
            value, wanted = made[name][0, draw], expected[name]
            if name == "inconsistency" and abs(wanted) > 1e3:
                continue  # a spread of rounding noise
            assert value == pytest.approx(wanted, rel=2e-6, abs=2e-6, nan_ok=True), name


def test_survival_draws_are_those_of_the_repeated_sample():
    random = np.random.default_rng(12)
    rows = frame(random_rows(random, "t", 1, most=60))
    outcome = {p: (random.integers(1, 9), random.random() < 0.6) for p in set(rows["patient"])}
    rows["time"] = [float(outcome[p][0]) for p in rows["patient"]]
    rows["event"] = [float(outcome[p][1]) for p in rows["patient"]]
    rows["uno_weight"] = 1.0
    threshold = pd.Series({"t": 0.0})
    found = measure_cases.cases(threshold, rows, unseen=[SEEN], survival=True)
    weight = random.integers(0, 3, size=(len(found.patients), 3)).astype(np.float32)
    made = measure_draws.trials(found, weight, metrics=measure_draws.METRICS)
    for draw in range(3):
        times = dict(zip(found.patients, weight[:, draw].astype(int), strict=True))
        wanted = measure_survival.trials(threshold, repeated(rows, times), unseen=[SEEN]).iloc[0]
        for which in ("", "worst_scanner_", "unseen_scanner_"):
            name = f"{which}concordance"
            assert made[name][0, draw] == pytest.approx(wanted[name], abs=1e-6, nan_ok=draw > 0)


def test_trials_of_two_outcomes_are_each_measured_on_their_own():
    random = np.random.default_rng(3)
    rows = frame(random_rows(random, "t", 1, most=40))
    parts = []
    for trial, early in (("a", 1.0), ("b", -1.0)):
        own = rows.assign(trial=trial, event=1.0, uno_weight=1.0)
        own["time"] = own["patient"].rank(method="dense") * early + 100
        parts.append(own)
    both, threshold = pd.concat(parts), pd.Series({"a": 0.0, "b": 0.0})
    found = measure_cases.cases(threshold, both, unseen=[[], []], survival=True)
    ones = np.ones((len(found.patients), 1), dtype=np.float32)
    made = measure_draws.trials(found, ones, metrics=["concordance"])["concordance"]
    wanted = measure_survival.trials(threshold, both, unseen=[[], []])["concordance"]
    np.testing.assert_allclose(made[:, 0], wanted, rtol=1e-6)
    assert made[0, 0] != made[1, 0]


def test_trials_of_other_patients_and_scanners_are_measured_each_on_its_own():
    random = np.random.default_rng(2)
    parts = [frame(random_rows(random, trial, 1, scanners=s)) for trial, s in
             (("a", "AB"), ("b", "ABC"), ("c", "A"))]  # fmt: skip
    rows = pd.concat(parts)
    threshold = pd.Series({"a": 0.0, "b": 0.1, "c": 0.2})
    found = measure_cases.cases(threshold, rows, unseen=[[], ["C"], []])
    ones = np.ones((len(found.patients), 1), dtype=np.float32)
    made = measure_draws.trials(found, ones, metrics=["auroc", "flip_rate", "inconsistency"])
    wanted = measure.trials(threshold, rows, unseen=[[], ["C"], []])
    for name, values in made.items():
        np.testing.assert_allclose(values[:, 0], wanted[name], rtol=1e-6)


def test_only_what_is_asked_for_is_measured():
    rows = frame(random_rows(np.random.default_rng(1), "t", 1))
    found = measure_cases.cases(pd.Series({"t": 0.0}), rows, unseen=[[]])
    ones = np.ones((len(found.patients), 2), dtype=np.float32)
    assert set(measure_draws.trials(found, ones, metrics=["brier", "unheard_of"])) == {"brier"}
