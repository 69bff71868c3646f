"""A survival sweep from its spec to its table, and what a launch refuses before it."""

import pandas as pd
import pytest

from orchestrator import aggregate, preparation, robustness, store
from tests.orchestrator import finished, specs
from tests.training.data import examples
from training.config import Task
from training.data import importing, index
from training.data.outcomes import Outcome
from training.errors import DataError

SPEC = (
    finished.SPEC.replace("task: {kind: binary}", "task: {kind: survival}")
    .replace("    min_tiles: 8", "    survival: {step: 6.0}\n    min_tiles: 8")
    .replace("optim: {epochs: 2}", "optim: {epochs: 2}\nstopping: {metric: concordance}")
    .replace("  again: {views: routine}", "  again: {views: routine, task: DISCRETE}")
    .replace("DISCRETE", "{kind: survival, survival: {loss: discrete, num_intervals: 2}}")
)


def test_a_survival_sweep_is_planned_trained_and_measured(tmp_path):
    path = finished.write_spec(tmp_path, text=SPEC)
    prepared = finished.planned(path, tmp_path / "results")
    folder = finished.train(prepared)
    plan, results = store.read_plan(folder), store.read_results(folder)
    table = aggregate.table(
        plan, results["trials"], results["predictions"], axes=aggregate.axes(plan)
    )
    assert table["missing"].sum() + table["failed"].sum() == 0
    assert table["concordance"].between(0, 1).all()
    assert table["unseen_scanner_concordance"].between(0, 1).all()
    assert (table["inconsistency"] > 0).all() and table["flip_rate"].isna().all()
    assert (results["trials"]["threshold"] == 0).all()
    joined = aggregate.join(
        plan, results["trials"], results["predictions"], axes=aggregate.axes(plan)
    )
    cells, scanners = robustness.cells(joined), robustness.scanners(joined)
    assert cells is not None and scanners is not None and len(cells) == len(table)
    pd.testing.assert_series_equal(cells["inconsistency"], table["inconsistency"])
    assert cells["icc_agreement"].le(1).all() and cells["rmsd"].gt(0).all()
    assert cells["worst_scanner_concordance"].between(0, 1).all()
    assert scanners["concordance"].between(0, 1).all() and scanners["events"].gt(0).all()
    assert set(scanners["seen"]) == {True, False}
    curves = results["curves"]
    assert "validation_concordance" in set(curves["quantity"])
    # Another plan of the same spec finds all of it done.
    again = finished.prepare(path, tmp_path / "results")
    assert not again.plan.packs


def dataset(root, *, time, event):
    cases = pd.DataFrame(
        {"patient": [f"patient {n}" for n in range(20)], "time": time, "event": event}
    )
    return examples.write(root, examples.scans(20), cases=cases)


def dry_run(tmp_path, **task):
    text = specs.small(
        data=str(tmp_path / "data"),
        task={"kind": "survival", "survival": task},
        encoders=["one"],
        stopping={"metric": "concordance"},
    )
    path = specs.write(tmp_path, text)
    return preparation.prepare(path, results=tmp_path / "results", cluster="local", write=False)


def test_a_dry_run_refuses_bad_outcomes_all_at_once(tmp_path):
    dataset(tmp_path / "data", time=[0, *range(1, 20)], event=[1] * 19 + [3])
    with pytest.raises(DataError) as caught:
        dry_run(tmp_path)
    assert caught.value.message.splitlines() == [
        "patient 'patient 0': time is '0', expected a finite number above 0",
        "patient 'patient 19': event is '3', expected 1 (event) or 0 (censored)",
    ]
    with pytest.raises(DataError, match="no column 'tme'; did you mean 'time'"):
        dry_run(tmp_path, time="tme")


def test_a_dry_run_refuses_folds_without_events(tmp_path):
    dataset(tmp_path / "data", time=range(1, 21), event=[1] * 3 + [0] * 17)
    with pytest.raises(DataError) as caught:
        dry_run(tmp_path)
    lines = caught.value.message.splitlines()
    assert [line[:7] for line in lines] == ["fold 0:", "fold 1:", "fold 2:"]
    assert "training part has 1 of 10 patients with an event; expected 2 or more" in lines[0]


def test_a_dry_run_plans_sound_outcomes(tmp_path):
    dataset(tmp_path / "data", time=range(1, 21), event=[1, 0] * 10)
    assert len(dry_run(tmp_path).plan.trials) == 3 * 3 * 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "a survival task has no auroc; set stopping.metric to concordance or loss"),
        (
            {
                "stopping": {"metric": "concordance"},
                "arms": {"mixed": {"views": "routine", "losses": {"mix": {"kind": "mixup"}}}},
            },
            "mixup needs classes, which a survival task has not",
        ),
    ],
)
def test_a_spec_says_what_does_not_go_with_survival(tmp_path, changes, expected):
    found = specs.problems(tmp_path, specs.small(task={"kind": "survival"}, **changes))
    assert found and all(expected in line for line in found)


def test_times_and_events_are_imported_like_any_label(tmp_path):
    rows = []
    for number in range(4):
        examples.h5(
            tmp_path / "in" / f"s{number}.h5",
            feats=examples.features(seed=number),
            coords=[[0, n] for n in range(5)],
        )
        rows.append(
            {"slide": f"s{number}", "patient": f"p{number}", "months": 12.25 * (number + 1)}
            | {"died": number % 2, "arm": "a"}
        )
    table = examples.csv(tmp_path / "in" / "slides.csv", rows)
    importing.import_features(tmp_path / "in", table, out=tmp_path / "out", encoder="e")
    made = index.read(tmp_path / "out")
    settings = {"time": "months", "event": "died", "strata": ["arm"]}
    task = Task.model_validate({"kind": "survival", "survival": settings})
    assert index.check(made, encoders=["e"], task=task) == []
    assert index.outcomes(made, task)["p3"] == Outcome(49.0, True, ("a",))
