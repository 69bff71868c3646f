"""Launching on this machine, by real processes: probe, price, repair, archive."""

import json

import pytest

from tests.end_to_end.sweeps import accepted, sweep, table, write_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A sweep of which one pack of each kind was trained, as a probe."""
    home = tmp_path_factory.mktemp("probed")
    done = sweep("launch", write_spec(home), "--results", home / "results", "--probe", code=1)
    assert "of 16 trials done" in done.stderr
    return home


def test_a_probe_trains_one_pack_of_each_kind_and_then_all_have_a_price(probed):
    results = probed / "results"
    assert accepted(results / "small") == 2  # erm sees other scans; the rest share their packs
    told = json.loads(
        sweep("launch", probed / "small.yaml", "--results", results, "-n", "--json").stdout
    )
    assert told["price"]["unknown_packs"] == 0 and told["price"]["seconds"] > 0
    again = sweep("launch", probed / "small.yaml", "--results", results, "--probe", "-n")
    assert "nothing to probe" in again.stderr


def test_what_a_probe_trained_is_kept_and_a_damaged_result_is_trained_again(probed):
    results = probed / "results"
    sweep("launch", probed / "small.yaml", "--results", results)
    before = table(results / "small")
    segment = sorted((results / "small" / "segments").iterdir())[0]
    (segment / "predictions.parquet").write_bytes(b"PAR1 and no more")
    listing = sorted(path.name for path in segment.parent.iterdir())
    dry = sweep("resume", "small", "--results", results, "--retry", "damaged", "-n", "--json")
    assert json.loads(dry.stdout)["to_train"] > 0
    assert sorted(path.name for path in segment.parent.iterdir()) == listing
    sweep("resume", "small", "--results", results, "--retry", "damaged")
    assert table(results / "small") == before


def test_an_archive_gives_back_the_same_table_and_resumes(probed, tmp_path):
    results, file = probed / "results", tmp_path / "kept.parquet"
    sweep("resume", "small", "--results", results)
    told = json.loads(
        sweep("archive", "small", "--results", results, "--out", file, "--json").stdout
    )
    assert told["counts"]["done"] == 16 and told["files"][0] == str(file)
    sweep("archive", "small", "--results", results, "--out", file, code=2)
    sweep("archive", file, "--restore", "--results", tmp_path / "back")
    sweep("archive", file, "--restore", "--results", tmp_path / "back", code=2)
    assert table(tmp_path / "back" / "small") == table(results / "small")
    again = sweep("resume", "small", "--results", tmp_path / "back", "--json")
    assert json.loads(again.stdout)["done"] == 16
