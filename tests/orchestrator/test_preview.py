import json
from datetime import UTC, datetime

import pytest

from orchestrator import control, events, preview, quote
from orchestrator.preparation import Options
from orchestrator.preview import Preview
from orchestrator.price import Price
from orchestrator.quote import Footprint, Start
from tests.orchestrator.finished import SPEC, planned, prepare, write_spec

PRICE = Price(gpu_hours=31.2, low=26, high=38, seconds=3600, unknown=0, source="from 40 packs")
DISK = Footprint(files=1204, size_bytes=34e6, free_bytes=23e12, free_files=None, source="x")
SITE = "kind: slurm\npartition: gpu\npilots: 8\nwalltime_min: 360\n"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    return str(tmp_path / "site.yaml")


def shown(prepared, capsys, *, mode="text", **given):
    made = Preview(**{"prepared": prepared, "price": PRICE, "footprint": DISK, **given})
    preview.show(made, mode, on_stdout=True)
    return capsys.readouterr().out


def test_a_price_has_an_interval_a_source_and_a_cap(tmp_path, site, capsys):
    options = Options(max_gpu_hours=48)
    made = prepare(write_spec(tmp_path), tmp_path / "r", cluster=site, options=options)
    text = shown(made, capsys)
    assert "price    31 GPU-h (26 to 38): from 40 packs\n         at most 48 GPU-h" in text
    assert "writes   about 1,204 files, 34 MB (x); 23 TB free" in text
    assert "12 trials in 4 cells; 0 done, 12 to train in 6 packs of up to 2 lanes" in text


def test_what_keeps_trials_from_sharing_a_pass_is_told(tmp_path, capsys):
    made = prepare(write_spec(tmp_path), tmp_path / "r")
    line = "lanes    4 groups of 2 to 4 trials, which differ in fold, views: each group"
    assert line + " trains apart" in shown(made, capsys)
    told = json.loads(shown(made, capsys, mode="json"))
    assert told["lanes_apart"] == {"groups": [2, 2, 4, 4], "differ_in": ["fold", "views"]}
    alone = SPEC.partition("  score:")[0].replace("num_folds: 2", "num_folds: 1")
    one = prepare(write_spec(tmp_path, text=alone, name="one"), tmp_path / "r")
    assert one.plan.apart() == ([2], []) and "\nlanes" not in shown(one, capsys)


def test_without_a_cap_the_first_pilots_are_told(tmp_path, site, capsys):
    made = prepare(write_spec(tmp_path), tmp_path / "r", cluster=site)
    assert "no cap (--max-gpu-hours); the first pilots use at most 48 GPU-h" in shown(made, capsys)


def test_an_unknown_price_says_how_to_get_one(tmp_path, capsys):
    made = prepare(write_spec(tmp_path), tmp_path / "r")
    assert "--probe" in shown(made, capsys, price=quote.price_of(made))


def test_a_price_here_is_a_time(tmp_path, capsys):
    assert "about 60 min here" in shown(prepare(write_spec(tmp_path), tmp_path / "r"), capsys)


def test_an_estimate_above_the_budget_is_a_warning(tmp_path, site):
    made = prepare(
        write_spec(tmp_path), tmp_path / "r", cluster=site, options=Options(max_gpu_hours=5)
    )
    (line,) = Preview(prepared=made, price=PRICE, footprint=DISK).warnings
    assert line.startswith("the estimate of 31 GPU-h is above --max-gpu-hours 5")


def test_scripts_and_the_start_are_shown(tmp_path, site, capsys):
    made = prepare(write_spec(tmp_path), tmp_path / "r", cluster=site)
    start = Start(times={"pilot": datetime(2099, 1, 1, 12, tzinfo=UTC)})
    text = shown(made, capsys, start=start, scripts={"pilot": "#!/bin/bash\n#SBATCH --time=1\n"})
    assert "SLURM estimates 2099-01-01" in text and "for the first pilot" in text
    assert text.endswith("# batch script of the pilot\n#!/bin/bash\n#SBATCH --time=1\n")


def test_json_has_no_number_that_is_not_one(tmp_path, capsys):
    made = prepare(write_spec(tmp_path), tmp_path / "r")
    told = json.loads(shown(made, capsys, mode="json", price=quote.price_of(made)))
    assert told["price"]["gpu_hours"] is None and told["price"]["unknown_packs"] > 0
    assert told["to_train"] == 12 and told["mode"] == "all" and told["start"] is None


def test_trials_of_a_running_driver_and_dropped_ones_are_told(tmp_path, capsys):
    first = planned(write_spec(tmp_path), tmp_path / "r")
    events.Journal(first.folder, "launch").write(
        "submitted", role="driver", job="7", size="normal", gpus=0, by="launch", tag="t"
    )
    text = SPEC.replace("seeds: 2", "seeds: [1, 2]")
    out = shown(prepare(write_spec(tmp_path, text=text), tmp_path / "r"), capsys)
    assert "a driver works on this sweep: 6 trials are its own; it gets 6 more" in out
    assert "6 trials of the running driver are not in the spec now" in out


def test_a_hold_that_lasts_is_a_warning(tmp_path, site):
    spec = write_spec(tmp_path)
    control.hold(planned(spec, tmp_path / "r").folder)
    made = prepare(spec, tmp_path / "r", cluster=site)
    (line,) = Preview(prepared=made, price=PRICE, footprint=DISK).warnings
    assert "held" in line and "sweep hold small --release" in line


def test_a_budget_in_gpu_hours_means_nothing_on_this_machine(tmp_path):
    made = prepare(write_spec(tmp_path), tmp_path / "r", options=Options(max_gpu_hours=5))
    (line,) = Preview(prepared=made, price=PRICE, footprint=DISK).warnings
    assert "--max-gpu-hours" in line and "this machine" in line
