import pandas as pd

from training.data import doubles


def notes(*rows: tuple[str, str, str]) -> list[str]:
    return doubles.notes(pd.DataFrame(list(rows), columns=["patient", "slide", "checksum"]))


def test_what_may_be_one_patient_or_slide_is_named() -> None:
    found = notes(
        ("P1", "a", "1"), ("p 1", "b", "2"), ("q", "S 1", "3"), ("r", "s1", "3"), ("t", "u", "")
    )  # fmt: skip
    assert found == [
        "patients 'q', 'r' have an identical bag: no split may divide them",
        "patients 'P1', 'p 1' differ in case or spaces only",
        "slides 'S 1', 's1' of patients 'q', 'r' differ in case or spaces only",
    ]


def test_what_differs_is_not_named() -> None:
    assert notes(("p", "a", "1"), ("p", "A", "1"), ("q", "b", ""), ("r", "c", "")) == []


def test_many_notes_are_cut() -> None:
    rows = [(f"{mark}{n}", f"{mark}{n}-1", f"{mark}{n}") for n in range(15) for mark in "pP"]
    found = notes(*rows)
    assert len(found) == 11 and found[-1] == "and 5 more like these"
