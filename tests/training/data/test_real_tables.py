"""The tables of PANDA and CAMELYON17, with bags of one made-up tile, through the fold makers."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestrator import preparation
from tests.training.data import examples
from training.config import Folds, LeaveOneOutFolds, SitePreservedFolds, StratifiedFolds, num_folds
from training.data import folds, importing, index, shards
from training.data.bags import Bag
from training.data.index import Dataset
from training.data.shards import View

ROOT = Path(__file__).parents[3]
SPEC = """\
data: {data}
task: {{kind: multiclass, classes: ["0", "1", "2", "3", "4", "5"]}}
encoders: [none]
folds: {{kind: stratified, num_folds: 5}}
seeds: 1
head: {{kind: mean}}
arms: {{erm: {{views: routine}}}}
"""


@pytest.fixture(scope="module")
def tables() -> Path:
    found = Path(os.environ.get("SWEEP_TEST_DATA", ROOT / ".." / "shared" / "data")) / "metadata"
    if not found.is_dir():
        pytest.skip(f"no real tables at {found}; set SWEEP_TEST_DATA")
    return found.resolve()


@pytest.fixture(scope="module")
def panda(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A slide per patient; the provider is the site."""
    slides = pd.read_csv(tables / "PANDA.csv.gz", dtype="str")
    views = [
        View(**dict.fromkeys(("patient", "slide", "scan", "view"), name), site=site, routine=True,
             num_tiles=1, dim=32)
        for name, site in zip(slides["slide_id"], slides["data_provider"], strict=True)
    ]  # fmt: skip
    root = tmp_path_factory.mktemp("panda") / "data"
    cases = slides[["slide_id", "label"]].rename(columns={"slide_id": "patient"})
    shards.write(root, encoder="none", views=views, load=tile, cases=cases)
    return index.read(root)


@pytest.fixture(scope="module")
def camelyon(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Five slides per patient, twenty patients per centre; the label is whether nodes are free."""
    stages = pd.read_csv(tables / "camelyon17_stage_labels.csv")
    names = stages["patient"].str.partition(".")[0]
    stage = dict(zip(names, stages["stage"], strict=True))
    home = tmp_path_factory.mktemp("camelyon")
    rows = []
    for number, slide in enumerate(name for name in names if "node" in name):
        patient = slide.partition("_node")[0]
        features = np.array([[number, 1]], np.float32)
        examples.h5(home / "in" / f"{slide}.h5", feats=features, coords=np.zeros((1, 2)))
        centre = f"centre {int(patient[-3:]) // 20}"
        label = "free" if stage[patient] == "pN0" else "not free"
        rows.append({"slide": slide, "patient": patient, "site": centre, "label": label})
    slides = examples.csv(home / "slides.csv", rows)
    report = importing.import_features(home / "in", slides, out=home / "data", encoder="none")
    assert (report.num_patients, report.num_slides, report.notes) == (100, 500, ())
    return index.read(home / "data")


def tile(view: View) -> Bag:
    """Spell the view's name: no two bags are equal."""
    return Bag(
        embeddings=np.frombuffer(view.view.encode(), np.uint8).astype(np.float16)[None],
        tile=np.zeros(1, np.int32),
        coords=np.zeros((1, 2), np.int32),
    )


def check(dataset: Dataset, kind: Folds) -> list[pd.DataFrame]:
    """No patient is in two parts, nor in two tests; give the class shares of the folds' tests."""
    task = examples.Task(kind="multiclass")
    site = dataset.index.set_index("patient")["site"]
    tested: list[str] = []
    shares = []
    for fold in range(num_folds(kind)):
        split = folds.split(dataset, examples.config(kind, fold=fold, encoder="none", task=task))
        everyone = [*split.train, *split.validation, *split.test]
        assert len(everyone) == len(set(everyone)) == dataset.cases["patient"].nunique()
        if not isinstance(kind, StratifiedFolds):
            fitted = site.loc[[*split.train, *split.validation]]
            assert set(site.loc[list(split.test)]).isdisjoint(set(fitted))
        tested += split.test
        cases = dataset.cases[dataset.cases["patient"].isin(split.test)]
        shares.append(cases["label"].value_counts())
    assert len(tested) == len(set(tested))
    return shares


def sites(num: int) -> SitePreservedFolds:
    return SitePreservedFolds(kind="site_preserved", num_folds=num)


def leaving_out(*values: str) -> LeaveOneOutFolds:
    return LeaveOneOutFolds(kind="leave_one_out", column="site", values=values)


def test_panda_s_grades_and_providers_are_reported_as_confounded(
    panda: Dataset, tmp_path: Path
) -> None:
    spec = tmp_path / "panda.yaml"
    spec.write_text(SPEC.format(data=panda.root))
    started = time.process_time()
    prepared = preparation.prepare(spec, results=tmp_path / "results", cluster="local", write=False)
    assert time.process_time() - started < 20
    assert list(prepared.warnings) == [
        "class and site are confounded: Cramér's V 0.384 (0.384 corrected for chance) over 9,555 "
        "routine scans of training patients"
    ]


def test_panda_s_providers_lie_in_one_fold_each(panda: Dataset) -> None:
    assert [len(share) for share in check(panda, sites(2))] == [6, 6]
    (karolinska,) = check(panda, leaving_out("karolinska"))
    assert karolinska.sum() == 4990
    shares = check(panda, StratifiedFolds(kind="stratified", num_folds=5))
    for share in shares:
        assert (share - panda.cases["label"].value_counts() / 5).abs().max() <= 1


def test_camelyon_s_centres_lie_in_one_fold_each(camelyon: Dataset) -> None:
    shares = check(camelyon, sites(5))
    assert [int(share.sum()) for share in shares] == [20] * 5
    assert len(check(camelyon, leaving_out(*(f"centre {n}" for n in range(5))))) == 5
    total = camelyon.cases["label"].eq("free").sum()
    # Of the ten ways to part five centres of 20 patients 2 : 3, the one with the closest counts.
    centre = camelyon.index.drop_duplicates("patient").set_index("patient")["site"]
    label = camelyon.cases.set_index("patient")["label"]
    counts = label.eq("free").groupby(centre).sum().to_numpy()
    ways = [counts[a] + counts[b] for a in range(5) for b in range(a)]
    shares = check(camelyon, sites(2))
    smaller = min(shares, key=lambda share: share.sum())
    assert smaller.sum() == 40
    assert cost(int(smaller["free"]), total) == min(cost(int(each), total) for each in ways)
    for share in check(camelyon, StratifiedFolds(kind="stratified", num_folds=5)):
        assert abs(share["free"] - total / 5) <= 1


def cost(free: int, total: int) -> int:
    """Sum the squared counts of a fold of 40 patients, of whom so many are free, and the other."""
    return free**2 + (40 - free) ** 2 + (total - free) ** 2 + (60 - total + free) ** 2


def test_the_order_of_camelyon_s_table_does_not_matter(camelyon: Dataset) -> None:
    other = replace(camelyon, index=camelyon.index.sample(frac=1, random_state=0))
    for kind in (sites(3), leaving_out("centre 2"), StratifiedFolds(kind="stratified")):
        config = examples.config(kind, encoder="none")
        assert folds.identify(other, config) == folds.identify(camelyon, config)
