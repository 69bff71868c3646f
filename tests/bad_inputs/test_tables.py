"""Data folders with wrong tables are refused at launch; the row, view or patient is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.bad_inputs import command, inputs
from tests.bad_inputs.inputs import SPEC

Change = Callable[[pd.DataFrame], object]


def at(row: int, **values: object) -> Change:
    """Change cells of one row."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        changed = table.copy()
        for name, value in values.items():
            changed[name] = changed[name].astype(object)
            changed.loc[row, name] = value
        return changed.infer_objects()

    return change


def typed(name: str, kind: str) -> Change:
    return lambda table: table.assign(**{name: table[name].astype(kind)})


INDEX = {
    "without rows": (lambda table: table.head(0), ["index.parquet: has no rows"]),
    "without a column": (lambda table: table.drop(columns="shard"), ["missing columns: shard"]),
    "without checksums": (lambda table: table.drop(columns="checksum"), ["columns: checksum"]),
    "numbers as text": (typed("row_start", "str"), ["'row_start' is str, expected int64"]),
    "numbers as floats": (typed("num_tiles", "float64"), ["'num_tiles' is float64"]),
    "routine as numbers": (typed("routine", "int64"), ["'routine' is int64, expected bool"]),
    "a null name": (at(3, scanner=None), ["'scanner' is null in row 3"]),
    "an empty patient": (at(0, patient=""), ["1 views have no patient"]),
    "an empty view": (at(0, view=""), ["1 views have no view"]),
    "a view twice": (lambda table: pd.concat([table, table.head(1)]), ["more than once"]),
    "a slide of two patients": (at(0, patient="patient 9"), ["'slide 0': belongs to several"]),
    "no routine scan": (at(0, routine=False), ["'slide 0': 0 routine scans"]),
    "two routine scans": (at(1, routine=True), ["'slide 0': 2 routine scans"]),
    "no tiles": (at(0, num_tiles=0), ["'slide 0/AT2': has no tiles"]),
    "negative tiles": (at(0, num_tiles=-5), ["'slide 0/AT2': has no tiles"]),
    "rows outside": (at(0, row_start=10**9), ["'slide 0/AT2' lies outside"]),
    "negative rows": (at(0, row_start=-4), ["'slide 0/AT2' lies outside"]),
    "a range past 64 bits": (at(0, row_start=2**63 - 2), ["'slide 0/AT2'"]),
    "another width": (at(0, dim=5), ["embeddings of several widths"]),
    "width zero": (lambda table: table.assign(dim=0), ["of width 0"]),
    "another type": (at(0, dtype="float64"), ["expects float64"]),
    "no such shard": (lambda table: table.assign(shard="shards/no.h5"), ["no.h5: missing"]),
    "a shard elsewhere": (lambda table: table.assign(shard="../../x.h5"), ["x.h5"]),
    "another checksum": (lambda table: table.assign(checksum="0"), ["differs from its checksum"]),
    "a source that is not there": (
        at(1, source_scan="gone", view="copy", scan="slide 0/GT450"), ["'gone' does not exist"]),
    "a source that is itself": (
        at(1, source_scan="slide 0/GT450", view="copy"), ["does not exist"]),
    "a scan named otherwise": (at(1, scan="other"), ["view and scan names must be equal"]),
}  # fmt: skip

CASES = {
    "without rows": (lambda table: table.head(0), ["no row in cases.parquet"]),
    "without a patient": (lambda table: table.iloc[1:], ["patient 'patient 0': no row"]),
    "a patient twice": (lambda table: pd.concat([table, table.head(1)]), ["more than one row"]),
    "without patients": (lambda table: table.drop(columns="patient"), ["columns: patient"]),
    "without labels": (lambda table: table.drop(columns="label"), ["no column 'label'"]),
    "a label misspelt": (lambda table: table.rename(columns={"label": "lable"}), ["'lable'?"]),
    "patients as numbers": (lambda table: table.assign(patient=range(len(table))), ["is int64"]),
    "a null patient": (at(2, patient=None), ["'patient' is null in row 2"]),
    "one class": (lambda table: table.assign(label="a"), ["has 1 classes ('a')"]),
    "three classes": (at(0, label="c"), ["has 3 classes"]),
    "no label at all": (lambda table: table.assign(label=""), ["has 0 classes"]),
    "a patient without a label": (at(0, label=""), ["patient 'patient 0': label is empty"]),
    "a null label": (at(0, label=None), ["patient 'patient 0': label is empty"]),
    "a class of one": (
        lambda table: table.assign(label=np.where(table["patient"] == "patient 0", "a", "b")),
        ["too few patients for 2 stratified folds: class 0 has 1"]),
}  # fmt: skip

FOLDS = "{kind: given, num_folds: 2}"
GIVEN = {
    "none": (None, ["folds.parquet: missing"]),
    "without rows": ([], ["repetition 0 has folds []"]),
    "a fold short": ([(0, 0, "patient 1")], ["has folds [0], expected 0 to 1"]),
    "numbered from one": ([(0, 1, "patient 1"), (0, 2, "patient 2")], ["has folds [1, 2]"]),
    "a patient twice": (
        [(0, 0, "patient 1"), (0, 1, "patient 1"), (0, 1,
        "patient 2")], ["held out more than once"]),
    "strangers": ([(0, 0, "x"), (0, 1, "y")], ["the test part has no patients"]),
    "huge numbers": ([(0, 2**62, "patient 1"), (0, 0, "patient 2")], ["has folds [0, 461168601"]),
}  # fmt: skip

ASKS = {
    "a scanner that is not there": ("unseen_scanners: [AT3]\n", ["'AT3'; did you mean 'AT2'?"]),
    "every scanner unseen": ("unseen_scanners: [AT2, GT450]\n", ["is on a seen scanner"]),
    "an empty scanner unseen": ("unseen_scanners: ['']\n", ["has no scan on ''"]),
    "no pair left": ("unseen_scanners: [GT450]\n", ["no training slide has scans on two seen"]),
    "a cohort that is not there": (
        "folds: {kind: cohort, train: [nowhere], test: [test]}\n", ["cohort 'nowhere'"]),
    "a value that is not there": (
        "folds: {kind: leave_one_out, column: scanner, values: [AT2, AT3]}\n",
        ["folds.values: encoder 'one' has no scan of scanner 'AT3'; did you mean 'AT2'?"]),
    "a value that everyone has": (
        "folds: {kind: leave_one_out, column: scanner, values: [AT2]}\n",
        ["no patient is left to train on", "folds.num_folds above 1"]),
    "sites that are not known": (
        "folds: {kind: site_preserved}\n", ["patients have scans without a site"]),
    "a locked cohort that is not there": (
        "external_cohorts: [elsewhere]\n", ["no patient belongs to 'elsewhere'"]),
    "more folds than patients": (
        "folds: {kind: stratified, num_folds: 17}\n", ["too few patients for 17"]),
    "a class that is not there": (
        "task: {kind: binary, classes: [a, c]}\n", ["expected one of 'a', 'c'", "'c' of label"]),
    "an encoder that is not there": ("encoders: [two]\n", ["two: no embeddings"]),
    "a table that is a file": ("data: small.yaml\n", ["small.yaml"]),
}  # fmt: skip


def refused(data: Path, says: list[str], more: str = "") -> None:
    kept = "".join(
        line
        for line in SPEC.splitlines(keepends=True)
        if line[:1] == " " or f"{line.partition(':')[0]}:" not in more
    )
    spec = inputs.write_spec(data.parent, kept + more)
    command.refused(
        data.parent, "launch", spec, "--results", data.parent / "results",
        code=command.SPEC_ERROR, says=says,
    )  # fmt: skip


def rewrite(path: Path, change: Change) -> None:
    table = pd.read_parquet(path)
    pd.DataFrame(change(table)).to_parquet(path, index=False)


@pytest.mark.parametrize(("change", "says"), INDEX.values(), ids=INDEX)
def test_a_wrong_index_is_refused(data: Path, change: Change, says: list[str]) -> None:
    rewrite(data / "index.parquet", change)
    refused(data, says)


@pytest.mark.parametrize(("change", "says"), CASES.values(), ids=CASES)
def test_wrong_cases_are_refused(data: Path, change: Change, says: list[str]) -> None:
    rewrite(data / "cases.parquet", change)
    refused(data, says)


@pytest.mark.parametrize(("rows", "says"), GIVEN.values(), ids=GIVEN)
def test_wrong_folds_are_refused(
    data: Path, rows: list[tuple[int, int, str]] | None, says: list[str]
) -> None:
    if rows is not None:
        types = {"repetition": "int64", "fold": "int64", "patient": "str"}
        table = pd.DataFrame(rows, columns=list(types)).astype(types)
        table.to_parquet(data / "folds.parquet", index=False)
    refused(data, says, f"folds: {FOLDS}\n")


@pytest.mark.parametrize(("more", "says"), ASKS.values(), ids=ASKS)
def test_a_spec_that_asks_for_what_the_data_lack_is_refused(
    data: Path, more: str, says: list[str]
) -> None:
    refused(data, says, more)


def test_one_patient_is_too_few(data: Path) -> None:
    rewrite(data / "index.parquet", lambda table: table[table["patient"] == "patient 0"])
    refused(data, ["has 1 classes"])


@pytest.mark.parametrize("name", ["index.parquet", "cases.parquet", "folds.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(64) + b"PAR1", None])
def test_a_table_that_cannot_be_read_is_named(data: Path, name: str, content: bytes | None) -> None:
    path = data / name
    path.unlink(missing_ok=True)
    if content is None:
        path.symlink_to("nowhere") if name == "index.parquet" else path.mkdir()
    else:
        path.write_bytes(content)
    refused(data, [name])


def test_every_problem_of_the_tables_is_in_one_message(data: Path) -> None:
    rewrite(data / "index.parquet", lambda table: at(0, num_tiles=0)(at(1, routine=True)(table)))
    rewrite(data / "cases.parquet", at(5, label="c"))
    refused(data, ["has no tiles", "2 routine scans", "has 3 classes"])
