import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from orchestrator import aggregate, representation
from orchestrator.measure_representation import METRICS, Measures
from orchestrator.representation_kept import Measured
from tests.orchestrator.predicted import frame
from training.metrics.information import information


def plan_row(cell, trial, *, arm, fold=0, seed=0, losses=(), views="routine", **more):
    config = json.dumps({"unseen_scanners": [], "losses": list(losses), "views": views})
    return {"cell": cell, "trial": trial, "encoder": "uni", "arm": arm, "fold": fold,
            "seed": seed, "config": config, "fingerprint": "f", "pack_family": "k",
            **more}  # fmt: skip


PLAN = pd.DataFrame(
    [
        plan_row(0, "a", arm="score", losses=[{"kind": "score"}], views="all", lr="1"),
        plan_row(0, "b", arm="score", losses=[{"kind": "score"}], views="all", lr="1", fold=1),
        plan_row(1, "c", arm="erm", lr="2"),
        plan_row(1, "d", arm="erm", lr="2", seed=1),
        plan_row(1, "e", arm="erm", lr="2", fold=1),
        plan_row(2, "f", arm="erm", lr="1"),
        plan_row(2, "g", arm="erm", lr="1", fold=1),
    ]
)


def told(seed, *, scanner, label=2.0, classes=True, fold=0):
    """Embeddings of 16 paired slides, scanner and label that much apart."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(16), 2) + 100 * fold
    where, y = np.tile([0, 1], 16), np.repeat(np.arange(16) % 2, 2)
    wide = 0.3 * draw.normal(size=(32, 4)) + 0.3 * draw.normal(size=(16, 4))[patient % 100]
    wide[:, 0] += scanner * where
    wide[:, 1] += label * y
    given = {"generator": np.random.default_rng(fold), "num_draws": 20}
    return Measures(
        metrics={name: float(seed) for name in METRICS},
        scanner=information(wide, where, patient, block=patient, **given),
        label=information(wide, y, patient, **given) if classes else None,
    )


def measured(trials="abcdefg", **more):
    fold = dict(zip(PLAN["trial"], PLAN["fold"], strict=True))
    moved = {t: 0.3 if t in "ab" else 2.0 for t in trials}
    found = Measured()
    for number, t in enumerate(trials):
        found.trials[t] = told(number, scanner=moved[t], fold=fold[t], **more)
    return found


def join(trials="abcdefg", **more):
    rows = [
        (t, f"p{i}", f"p{i}", f"{t}{i}{s}", s, True, i % 2, float(i))
        for t in trials
        for i in range(4)
        for s in "AB"
    ]
    done = pd.DataFrame({"trial": list(trials), "state": "done", "threshold": 0.0, "commit": "c",
                         "versions": "{}"})  # fmt: skip
    return aggregate.join(PLAN, done, frame(rows), axes=["lr"], **more)


def test_a_cell_is_the_mean_over_folds_of_the_mean_over_seeds():
    found = measured()
    table = representation.table(join(), found, reference="erm")
    assert table["robustness_index"].to_list() == [0.5, (2.5 + 4) / 2, 5.5]
    c, d, e = (found.trials[t].scanner.bound for t in "cde")
    assert table.loc[1, "scanner_information"] == pytest.approx(((c + d) / 2 + e) / 2)
    assert table.loc[0, "label_entropy"] == pytest.approx(np.log(2))
    assert (table["scanner_p"] <= 1).all() and (table["label_null"] < np.log(2)).all()


def test_a_loss_that_takes_the_scanner_away_is_selective_against_the_arm_without():
    found = measured()
    table = representation.table(join(), found, reference="erm")
    own = "this is the reference"
    assert table["selectivity_reference_refused"].to_list() == ["", own, own]
    value = table.loc[0, "selectivity_reference"]
    assert value > 0.5 and table.loc[0, "selectivity_reference_low"] > 0.3
    assert set(table["selectivity_encoder_refused"]) == {"no embeddings of the encoder"}
    # The reference is the cell of the arm with the same lr, f and g, not the first of the arm.
    bounds = {
        target: [
            np.mean([getattr(found.trials[t], target).bound for t in pair]) for pair in ("fg", "ab")
        ]
        for target in ("scanner", "label")
    }
    drops = {target: 1 - max(after, 0) / before for target, (before, after) in bounds.items()}
    assert value == pytest.approx(drops["scanner"] - drops["label"])


def test_where_the_label_is_not_told_there_is_no_selectivity_and_a_reason():
    found = measured()
    for t in "fg":
        found.trials[t] = told(50, scanner=2.0, label=0.0, fold=int(t == "g"))
    table = representation.table(join(), found, reference="erm")
    assert np.isnan(table.loc[0, "selectivity_reference"])
    assert (
        "label's information before is not above" in table.loc[0, "selectivity_reference_refused"]
    )


def test_a_task_without_classes_has_no_selectivity():
    table = representation.table(join(), measured(classes=False), reference="erm")
    assert table.loc[0, "selectivity_reference_refused"] == "the task has no classes"
    assert table["label_information"].isna().all() and table["scanner_information"].notna().all()


def test_encoders_stand_below_the_cells_and_cells_are_compared_with_them():
    found = measured()
    found.encoders = {("uni", f): told(70 + f, scanner=2.0, fold=f) for f in (0, 1)}
    table = representation.table(join(), found, reference="")
    last = table.iloc[-1]
    assert last[["encoder", "arm", "lr", "trials"]].to_list() == ["uni", "(encoder)", "", 2]
    assert last["robustness_index"] == 70.5
    assert table.loc[0, "selectivity_encoder"] > 0.5
    assert set(table["selectivity_reference_refused"]) == {"no embeddings of the reference", ""}
    found.encoders.pop(("uni", 1))
    table = representation.table(join(), found, reference="")
    assert table.loc[0, "selectivity_encoder_refused"] == "the encoder has other folds"


def test_cells_with_holes_or_without_embeddings_have_no_value_unless_allowed():
    strict = representation.table(join("abcdefg"), measured("acdefg"), reference="erm")
    assert strict["without"].to_list() == [1, 0, 0]
    assert strict["variance"].isna().to_list() == [True, False, False]
    assert strict.loc[0, "selectivity_reference_refused"] == "no embeddings of this cell"
    missing = representation.table(join("acdefg"), measured("acdefg"), reference="erm")
    assert missing.loc[0, ["missing", "without"]].to_list() == [1, 0]
    assert np.isnan(missing.loc[0, "variance"])
    allowed = representation.table(
        join("abcdefg", allow_missing=True), measured("acdefg"), reference="erm"
    )
    assert allowed["variance"].notna().all()
    assert allowed.loc[0, "selectivity_reference_refused"] == "the reference has other folds"


def test_the_reference_is_the_first_arm_on_routine_scans_without_a_loss():
    assert representation.reference_arm(PLAN) == "erm"
    assert representation.reference_arm(PLAN[PLAN["arm"] == "score"]) == ""


def test_the_kind_of_a_search_is_no_axis_and_encoders_have_none():
    joined = join()
    cells = joined.cells.assign(search="asha", retired=0)
    found = measured()
    found.encoders = {("uni", f): told(70 + f, scanner=2.0, fold=f) for f in (0, 1)}
    table = representation.table(replace(joined, cells=cells), found, reference="erm")
    assert table["retired"].to_list() == [0, 0, 0, 0]
    assert table["search"].to_list() == ["asha", "asha", "asha", ""]
    plain = representation.table(joined, found, reference="erm")
    pd.testing.assert_frame_equal(table[plain.columns], plain)


def test_cells_whose_folds_hold_out_other_patients_are_not_compared():
    found = measured()
    for trial in "ab":
        its = found.trials[trial].scanner
        moved = replace(its, patient=its.patient + 1)
        found.trials[trial] = replace(found.trials[trial], scanner=moved)
    table = representation.table(join(), found, reference="erm")
    assert table.loc[0, "selectivity_reference_refused"] == "the reference has other folds"
    assert np.isnan(table.loc[0, "selectivity_reference"])
