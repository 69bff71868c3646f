"""`sweep report` on sweeps that were really trained: pages, bundles, holes, hostile names."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from orchestrator import bundle, files, report, report_material, report_page, store
from orchestrator.canvas import Figure
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.report_parts import Report, Section
from tests.orchestrator import finished
from tests.orchestrator.test_report_page import Reader
from training.data import index

HOSTILE = "<i>&\"'$x_1$%\\{漢"
SPEC = (
    finished.SPEC.replace("num_folds: 2", "num_folds: 1")
    .replace("seeds: 2", "seeds: 1")
    .replace(
        "  again: {views: routine}\n",
        f"  all: {{views: all}}\n  {json.dumps(HOSTILE)}: {{views: all}}\n",
    )
)
KEPT = """\
artefacts: {attention: top, embeddings: evaluation}
select: {rule: accuracy}
analysis:
  arm: score
  against: erm
  metric: auroc
  margin: 0.05
  where: {losses.score.weight: 1}
"""
SURVIVAL = """\
data:
  simulate:
    dev_patients: 40
    test_patients: 16
    min_tiles: 8
    max_tiles: 12
    scanners: [A]
    unseen_scanners: []
    confounding: 0
    paired_share: 0
    encoders: {tiny: {dim: 16}}
    survival: {log_hazard_ratio: 2.5}
task: {kind: survival}
encoders: [tiny]
folds: {kind: cohort, train: [dev], test: [test], num_folds: 1}
seeds: 1
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 20}
optim: {epochs: 2}
stopping: {metric: concordance}
arms: {cox: {views: routine}}
"""


def trained(home, text=SPEC + KEPT, **given):
    return finished.train(
        finished.planned(finished.write_spec(home, text=text), home / "r"), **given
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = trained(tmp_path_factory.mktemp("report"))
    _draw_pictures(report_material.read(folder, draws=0, allow_missing=False).data)
    return folder


def _draw_pictures(data):
    rows = index.read(data).index.drop_duplicates("scan").head(200)
    (data / "thumbnails").mkdir()
    for scan in rows["scan"]:
        path = data / "thumbnails" / f"{scan}.png"
        image.imsave(path, np.full((30, 60, 3), 0.9))
        facts = {"size": [6000, 3000], "tile_span": [200, 200]}
        path.with_suffix(".json").write_text(json.dumps(facts))


def written(folder, out, **changed):
    given = {"allow_missing": False, "bundled": False, "draws": 20, "mode": "json"}
    return report.write(folder, out=out, **given | changed)


@pytest.fixture(scope="module")
def page(home, tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    assert written(home, out, mode="quiet") == 0
    return (out / "report.html").read_text()


def test_the_page_has_every_section_and_names_stay_text(page):
    read = Reader(page)
    anchors = [attrs["id"] for attrs in read.of("section")]
    assert anchors == [
        "summary", "primary", "results", "differences", "tradeoff", "selected", "scanners",
        "embeddings", "training", "slides", "costs", "provenance", "reading",
    ]  # fmt: skip
    assert any(HOSTILE in text for text in read.text) and not read.of("i")
    primary = page[page.index('id="primary"') : page.index('id="results"')]
    assert "score.weight=1" in primary and 'id="table-primary"' in primary
    assert "No primary analysis" not in page and "Primary analysis (tiny, AUROC)" in page
    assert "reconstruction" in page and "simulated" in page
    assert "The first" not in page


def test_attention_lies_on_the_pictures_of_the_scans(page):
    slides = page[page.index('id="slides"') : page.index('id="costs"')]
    assert slides.count("<figure>") >= 4
    assert slides.count("data:image/png;base64") == slides.count("<figure>")


def test_weights_have_curves_and_every_figure_says_what_it_shows(page):
    assert page.count('role="img" aria-label="') == page.count("<figcaption>") > 10
    assert "Line plot of AUROC over the weight of score on tiny" in page


@pytest.fixture
def _blank(monkeypatch):
    """Draw nothing."""
    monkeypatch.setattr(report_page, "html", lambda made: made.title)


@pytest.mark.usefixtures("_blank")
def test_json_tells_files_and_findings(home, tmp_path, capsys):
    assert written(home, tmp_path) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(tmp_path / "report.html")] and told["left_out"] == []
    assert told["findings"][0]["text"].startswith("Primary analysis (tiny, AUROC): score")


def files_under(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_bundle_has_the_same_bytes_twice_and_says_how_to_make_it_again(home, tmp_path):
    whole = report_material.read(home, draws=5, allow_missing=False)
    made = report.make(whole)
    few = replace(
        made,
        sections=tuple(
            replace(s, figures=s.figures[: s.anchor == "differences"]) for s in made.sections
        ),
    )
    found = []
    for place in ("a", "b", "b"):  # the last in place of the one before
        paths, left_out = bundle.write(whole, few, tmp_path / place)
        assert left_out == [] and sorted(paths) == paths
        found.append(files_under(tmp_path / place))
    one, two, three = found
    assert one == two == three and len(paths) == len(one)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert {"README.md", "report.html", "spec.yaml", "plan.parquet", "versions.json"} <= set(one)
    assert "tables/differences.csv" in one and "tables/tradeoff.parquet" in one
    assert b"toprule" in one["tables/evidence.tex"]
    assert sum(name.endswith(".pdf") for name in one) == sum(name.endswith(".png") for name in one)
    readme = one["README.md"].decode()
    assert readme.startswith(bundle.MARK) and "sweep report small --bundle --draws 5\n" in readme
    told = pd.read_parquet(tmp_path / "a" / "predictions.parquet")
    assert len(told) == len(store.read_results(home)["predictions"])


def test_predictions_under_a_tied_licence_are_left_out_and_it_is_said(home, tmp_path):
    whole = report_material.read(home, draws=0, allow_missing=False)
    notes = replace(whole.cells.notes, licences={"tiny": ("CC-BY-NC-ND-4.0",)})
    bought = replace(whole, spec=None, cells=replace(whole.cells, notes=notes))
    _, left_out = bundle.write(
        bought, Report(title="t", lead="", facts=(), sections=(), foot=""), tmp_path / "a"
    )
    assert left_out == ["predictions of tiny: licence CC-BY-NC-ND-4.0 is not known to allow it"]
    assert not (tmp_path / "a" / "predictions.parquet").exists()
    assert left_out[0] in (tmp_path / "a" / "README.md").read_text()


def test_figures_whose_names_differ_in_signs_alone_keep_files_of_their_own():
    made = [Figure(name="forest-x", caption=name, alt="", plot=lambda _: None) for name in "漢字"]
    sections = [Section(anchor=one.caption, title="", figures=(one,)) for one in made]
    named = [one.figures[0] for one in report._named_apart(sections)]
    assert [(one.name, one.caption) for one in named] == [("forest-x", "漢"), ("forest-x--2", "字")]


def test_a_bundle_replaces_nothing_but_a_bundle(home, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(SweepError, match="no bundle"):
        written(home, tmp_path / "mine", bundled=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_bundle_may_fill_the_empty_folder_that_one_is_in(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "paper").mkdir()
    monkeypatch.chdir(tmp_path / "paper")
    assert written(home, Path(), bundled=True) == 0
    assert "report.html" in json.loads(capsys.readouterr().out)["files"]
    assert (tmp_path / "paper" / "README.md").read_text().startswith(bundle.MARK)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("Apache-2.0",), ""), (("CC BY 4.0", "MIT"), ""), ((), "no licence is stated"),
     (("unknown",), "no licence is stated"), (("CC-BY-NC-ND-4.0",), "CC-BY-NC-ND-4.0 is not known"),
     (("CC-BY-NC-ND 4.0 (code: MIT)",), "is not known"),
     (("CC BY NonCommercial",), "is not known"), (("MIT, for research only",), "is not known"),
     (("MIT", "gated"), "gated is not known"), (("limited to permitted use",), "is not known")],
)  # fmt: skip
def test_predictions_are_passed_on_only_where_the_licence_is_known_to_allow_it(names, wanted):
    found = bundle._reason_against(names)
    assert (wanted in found) if wanted else not found


@pytest.mark.usefixtures("_blank")
def test_a_cell_with_holes_is_marked_and_the_command_fails(tmp_path, capsys):
    prepared = finished.planned(finished.write_spec(tmp_path, text=SPEC), tmp_path / "r")
    plan = store.read_plan(prepared.folder)
    gone = plan.loc[plan["arm"] == "erm", "trial"].to_list()
    folder = finished.train(prepared, without=gone[:1])
    assert written(folder, tmp_path, mode="text") == 1
    told = capsys.readouterr()
    assert "not whole" in told.out and "sweep resume small" in told.err
    assert written(folder, tmp_path, allow_missing=True, mode="text") == 0
    assert "averaged over what there is" in capsys.readouterr().out


def test_a_sweep_without_any_result_gets_a_page_that_says_so(tmp_path):
    prepared = finished.planned(finished.write_spec(tmp_path, text=SPEC), tmp_path / "r")
    assert written(prepared.folder, None, mode="quiet") == 1
    page = (prepared.folder.tables / "report.html").read_text()
    assert "0 of 4" in page and "not whole" in page and "Nothing failed." in page
    assert "Nothing has trained yet." in page and "No cell can be compared with erm" in page


def test_a_survival_sweep_on_one_scanner_gets_a_page_that_fits(tmp_path):
    folder = trained(tmp_path, text=SURVIVAL)
    assert written(folder, tmp_path, mode="quiet") == 0
    page = (tmp_path / "report.html").read_text()
    read = Reader(page)
    anchors = [attrs["id"] for attrs in read.of("section")]
    assert "scanners" not in anchors and "slides" not in anchors
    assert "concordance" in page and "AUROC" not in page
    assert "There is no arm to compare with" in page and "compared with cox" not in page


def test_a_folder_that_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(SweepError, match="no sweep of this name"):
        written(Folder(tmp_path / "absent"), tmp_path)


def test_representation_is_shown_once_it_was_measured(home):
    def section():
        made = report.make(report_material.read(home, draws=0, allow_missing=False))
        return next(one for one in made.sections if one.anchor == "embeddings")

    assert "sweep aggregate small --representation" in section().text[0] and not section().tables
    home.tables.mkdir(exist_ok=True)
    frame = pd.DataFrame({"encoder": ["tiny"], "scanner_information": [0.5], "scanner_p": [0.01]})
    path = home.tables / "representation.parquet"
    files.write_frame(frame, path)
    shown = section().tables[0]
    assert shown.frame.equals(frame) and shown.formats["scanner_p"] == "p"
    path.unlink()
