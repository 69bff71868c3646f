"""A recipe follows the content of files and what shapes a bag; not names of folders."""

import dataclasses
import shutil

import pytest

from tests.training.extraction.made_up_slides import CONFIG, NAME, request, simple
from training.extraction import recipes, requests, slide_table


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    asked = request(simple(folder, 1), folder / "data")
    table = slide_table.read(asked.slides, [])
    return folder, next(iter(table.slides.values())), requests.choose(NAME, asked)


def of(scans, chosen, config=CONFIG):
    return recipes.of_slide(scans, config, [chosen])[NAME]


def moved(scans, folder):
    shutil.copytree(scans[0].path.parent, folder)
    return [dataclasses.replace(scan, path=folder / scan.path.name) for scan in scans]


def test_a_file_in_another_place_has_the_same_recipe(made, tmp_path):
    _, scans, chosen = made
    assert of(moved(scans, tmp_path / "there"), chosen) == of(scans, chosen)


def test_content_scale_settings_and_weights_change_it(made, tmp_path):
    _, scans, chosen = made
    known = of(scans, chosen)[scans[0].name]
    other = moved(scans, tmp_path / "there")
    other[0].path.write_bytes(other[0].path.read_bytes() + b"more")
    weights = dataclasses.replace(chosen.weights, revision="abc")
    finer = CONFIG.model_copy(update={"tiling": CONFIG.tiling.model_copy(update={"tile_px": 32})})
    found = {
        of(other, chosen)[scans[0].name],
        of([dataclasses.replace(scans[0], mpp=0.9)], chosen)[scans[0].name],
        of(scans, dataclasses.replace(chosen, weights=weights))[scans[0].name],
        of(scans, dataclasses.replace(chosen, precision="float16"))[scans[0].name],
        of(scans, chosen, finer)[scans[0].name],
    }
    assert len(found) == 5 and known not in found


def test_a_further_view_leaves_the_others_alone(made):
    _, scans, chosen = made
    view = {"name": "j", "steps": [{"kind": "jpeg"}]}
    more = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), "views": [view]})
    found = of(scans, chosen, more)
    assert len(found) == 2 and found[scans[0].name] == of(scans, chosen)[scans[0].name]


def test_a_reference_counts_by_its_content_wherever_it_lies(made, tmp_path, monkeypatch):
    _, scans, chosen = made
    (tmp_path / "here").write_bytes(b"picture")
    (tmp_path / "there").write_bytes(b"picture")
    (tmp_path / "other").write_bytes(b"another")
    monkeypatch.chdir(tmp_path)

    def recipe(reference):
        step = {"kind": "macenko", **({"reference": reference} if reference else {})}
        view = {"views": [{"name": "m", "steps": [step]}]}
        config = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), **view})
        return of(scans, chosen, config)[f"{scans[0].name}-m"]

    assert recipe("here") == recipe(str(tmp_path / "there"))
    assert len({recipe("here"), recipe("other"), recipe("")}) == 3
