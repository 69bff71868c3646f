"""Converts the classic MIL sets MUSK1 and ELEPHANT to tables that `sweep index` imports.

    python -m tests.classic_mil SOURCE_DIR OUT_DIR

SOURCE_DIR holds `musk1norm.mat.gz`, `elephant.mat.gz` and `folds_5x10cv.json` (Dietterich et al.
1997; Andrews et al. 2003; the folds of komartom/MIDatasets.jl). OUT_DIR gets, for each set, a
Parquet table with a row per instance (`bag`, `label`, `f000` …) and a CSV of its 5 × 10 folds
(`repetition`, `fold`, `bag`). Bags are named by their number in order of first appearance, which is
how the folds count them; that is checked against the bag sizes and labels that came with the folds.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

FILES = {"musk1": "musk1norm.mat.gz", "elephant": "elephant.mat.gz"}


def convert(source: Path, out: Path) -> None:
    """Write `<set>.parquet` and `<set>-folds.csv` for both sets."""
    folds = json.loads((source / "folds_5x10cv.json").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        table = instances(source / file)
        _agree(table, folds[name]["bag_sizes"], folds[name]["bag_labels"])
        table.to_parquet(out / f"{name}.parquet", index=False)
        held_out(folds[name]["test_folds"]).to_csv(out / f"{name}-folds.csv", index=False)


def instances(path: Path) -> pd.DataFrame:
    """Read one set: `bag`, `label` (0 or 1) and a column per feature; a row per instance."""
    with gzip.open(path) as file:
        found = scipy.io.loadmat(file)
    numbers, _ = pd.factorize(np.ravel(found["bag_ids"]))
    features = pd.DataFrame(found["features"].toarray())
    features.columns = [f"f{column:03d}" for column in range(features.shape[1])]
    features.insert(0, "bag", [bag_name(number) for number in numbers])
    features.insert(1, "label", (found["labels"].toarray().ravel() > 0).astype("int64"))
    return features


def held_out(test_folds: list[list[list[int]]]) -> pd.DataFrame:
    """List the held-out bags of each repetition and fold."""
    return pd.DataFrame(
        [
            (repetition, fold, bag_name(number))
            for repetition, folds in enumerate(test_folds)
            for fold, numbers in enumerate(folds)
            for number in numbers
        ],
        columns=["repetition", "fold", "bag"],
    )


def bag_name(number: int) -> str:
    return f"bag-{number:03d}"


def _agree(table: pd.DataFrame, sizes: list[int], labels: list[int]) -> None:
    bags = table.groupby("bag", sort=True)
    if bags.size().tolist() != sizes or bags["label"].max().tolist() != labels:
        raise ValueError("the bags differ from those that the folds were made for")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tests.classic_mil SOURCE_DIR OUT_DIR")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
