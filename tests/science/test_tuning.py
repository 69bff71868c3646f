import math
from pathlib import Path

import pandas as pd

from tests.science import tuning
from tests.science.settings import ARMS, Arm


def test_the_rule_takes_the_least_inconsistent_setting_near_the_best_auroc() -> None:
    assert tuning.choose([0.90, 0.895, 0.80], [0.6, 0.5, 0.1]) == 1
    assert tuning.choose([0.90, 0.885, 0.80], [0.6, 0.5, 0.1]) == 0
    assert tuning.choose([math.nan, 0.7], [0.1, 0.9]) == 1


def test_the_table_averages_over_cohorts_and_marks_what_is_chosen_and_used() -> None:
    arm = Arm(
        name="erm", family="baseline",
        tried=({"optim": {"lr": 0.01}}, {"losses": ({"kind": "score", "weight": 0.3},)}), chosen=0,
    )  # fmt: skip
    cohorts = [
        {
            "records": [
                {"arm": "erm", "setting": 0, "auroc": 0.8, "inconsistency": one},
                {"arm": "erm", "setting": 1, "auroc": other, "inconsistency": 1.0},
            ]
        }
        for one, other in ((1.0, 0.79), (4.0, 0.80))
    ]
    found = tuning.table(cohorts, [arm])
    two = {"losses": ({"kind": "infonce", "weight": 0.1}, {"kind": "score", "weight": 0.3})}
    assert tuning.brief(two) == "infonce weight 0.1, score weight 0.3"
    assert found["setting"].tolist() == ["lr 0.01", "weight 0.3"]
    assert found["inconsistency"].round(6).tolist() == [2.0, 1.0]
    assert found["chosen"].tolist() == [False, True]
    assert found["used"].tolist() == [True, False]
    assert tuning.markdown(found).splitlines()[-1] == (
        "| erm | lr 0.01: .800 / 2.00 (!); **weight 0.3: .795 / 1.00** (!) |"
    )


def test_what_is_used_is_what_the_kept_table_chose() -> None:
    kept = pd.read_csv(Path(__file__).parents[2] / tuning.TABLE)
    tuned = [arm for arm in ARMS if arm.tried]
    expected = [(arm.name, tuning.brief(change)) for arm in tuned for change in arm.tried]
    assert list(zip(kept["arm"], kept["setting"], strict=True)) == expected
    chosen = kept.groupby("arm")["chosen"].apply(lambda column: column.to_list().index(True))
    assert {arm.name: arm.chosen for arm in tuned} == chosen.to_dict()
