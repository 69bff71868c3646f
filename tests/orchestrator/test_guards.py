import pandas as pd

from orchestrator import guards


def rows(**columns):
    size = len(next(iter(columns.values())))
    given = {
        "cell": [0] * size, "fold": list(range(size)), "seed": [0] * size,
        "trial": [f"t{n}" for n in range(size)], "state": ["done"] * size,
        "commit": ["a"] * size, "versions": ["{}"] * size, "device": ["cpu"] * size,
        "fingerprint": ["f"] * size,
    }  # fmt: skip
    return pd.DataFrame({**given, **columns})


def mark(**columns):
    return guards.marks(rows(**columns)).loc[0]


def test_a_whole_cell_has_no_mark():
    assert mark(state=["done", "done"]) == ""


def test_everything_that_is_wrong_is_said_at_once():
    assert mark(state=["done", None, "failed", "failed"]) == "1 missing; 2 failed"
    assert mark(commit=["a", "b"]) == "2 commits"
    assert mark(versions=["{}", "{1}"], device=["cpu", "H100"]) == (
        "2 sets of packages; 2 kinds of device"
    )
    assert mark(fold=[0, 0], seed=[0, 1], fingerprint=["f", "g"]) == "several sets of data"
    assert mark(fold=[0, 1], fingerprint=["f", "g"]) == ""
    assert mark(fold=[0, 0]) == "1 twice"


def test_what_is_not_told_is_not_mixed_and_failed_trials_do_not_mix():
    assert mark(device=[None, None]) == ""
    assert mark(state=["done", "failed"], commit=["a", "b"]) == "1 failed"


def test_retired_trials_alone_are_no_fault():
    marks = pd.Series(["", "3 retired", "1 missing; 3 retired", "2 commits"])
    assert guards.count(marks) == 2
