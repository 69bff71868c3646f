"""Each figure of the benchmark in the smallest size: it runs, and its direction is right."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench import lanes, loading, plain, record, report, scale, systems, trials
from tests.bench.trials import Load
from training.config import TrialConfig
from training.data import index
from training.session import Session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench") / "data"
    trials.write_data(root)
    return root


def configs(folder: Path, data: Path, load: Load) -> list[TrialConfig]:
    spec = folder / "load.yaml"
    trials.write_spec(spec, load, data=data)
    return trials.configs(spec)


def test_the_trials_of_a_load_are_so_many_and_differ(tmp_path: Path, data: Path):
    found = configs(tmp_path, data, Load(name="x", epochs=3, num_trials=8))
    assert len(found) == 8 == len({config.model_dump_json() for config in found})
    assert {config.optim.epochs for config in found} == {3}


@pytest.mark.slow
def test_the_ordinary_trainer_does_the_arithmetic_of_a_lane(tmp_path: Path, data: Path):
    load = Load(name="x", epochs=2, num_trials=4)
    mine = [
        config.model_copy(update={"precision": "float64"})
        for config in configs(tmp_path, data, load)[:2]
    ]
    session = Session(mine, index.read(data), device=torch.device("cpu"), resident_bytes=2**31)
    for _ in range(2):
        session.run_epoch()
    given = plain.prepare(mine[0], data)
    for lane, config in enumerate(mine):
        found = plain.train(config, given)
        epoch = session.progress[lane].epoch
        assert epoch in (1, 2) and len(found)
        session.lanes.put(session.choice.flat, session.choice.state)
        rows = np.concatenate(
            [given.scans.of("test", seen_only=False), given.scans.of("validation", seen_only=True)]
        )
        scores = _scores(session, rows)
        np.testing.assert_allclose(found["score"], scores[lane][:, 0], atol=1e-9)


def _scores(session: Session, rows: np.ndarray) -> np.ndarray:
    from training import evaluation

    return evaluation.score(session.lanes, session.loader, rows, session.num_tiles)


@pytest.mark.slow
def test_lanes_of_a_larger_pack_cost_less_each(tmp_path: Path, data: Path, monkeypatch):
    monkeypatch.setattr(lanes, "SIZES", (1, 16))
    found = lanes.measure(
        Load(name="x", epochs=4, num_trials=16), data=data, scratch=tmp_path
    )  # fmt: skip
    assert found["16"] < found["1"], "sixteen lanes share what one with its companion pays alone"


@pytest.mark.slow
def test_trials_that_share_no_loss_cost_less_in_one_pass(tmp_path: Path, data: Path):
    load = Load(name="x", epochs=4, num_trials=4)
    found = lanes.measure_losses(load, data=data, scratch=tmp_path)
    assert found["one pass"] < found["packs of one"], "the model is one call for all of them"


@pytest.mark.slow
def test_drawn_tiles_are_read_without_their_bags(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loading, "NUM_SLIDES", 8)
    loading.write(tmp_path)
    found = loading.measure(tmp_path)
    assert set(found) == set(report.WAYS)
    assert found["loader, 512 tiles"] < found[".pt file, 512 tiles"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["plan, 100 cells", "plan, a cell per trial", "driver"])
def test_the_orchestrator_is_measured(tmp_path: Path, what: str):
    assert scale.measure(what, 1000, tmp_path)["seconds"] > 0


def test_a_record_goes_on_where_it_stopped_and_mixes_nothing(tmp_path: Path):
    path = tmp_path / "speed.json"
    first = record.Record(path, {"form": "short"})
    assert not first.resumed
    first.once("lanes", "sizes", 0, lambda: {"plain": 1.0})
    again = record.Record(path, {"form": "short"})
    assert again.resumed and again.get("lanes", "sizes", 0) == {"plain": 1.0}
    assert again.once("lanes", "sizes", 0, lambda: pytest.fail("measured twice")) == {"plain": 1.0}
    other = record.Record(path, {"form": "full"})
    assert not other.resumed and not other.rows
    assert json.loads(path.with_suffix(".json.old").read_text())["rows"]


def made_up(path: Path) -> record.Record:
    found = record.Record(path, {"form": "short"})
    for repeat, wall in enumerate((10.0, 12.0, 11.0)):
        figure = "systems, 1 s"
        for name, values in (
            ("bare", {"core_s": 16.0, "trials": 16.0}),
            ("sweep", {"wall_s": wall, "startup_s": 2.0, "gone_s": wall, "gap_s": 0.05}),
            (
                "sweep on slurm",
                {"wall_s": wall, "startup_s": 8.0, "gone_s": wall, "pilot_s": 6.0 + repeat},
            ),
            ("shell", {"wall_s": 2 * wall + repeat, "startup_s": 3.0, "gone_s": 2 * wall}),
        ):
            found.once(figure, name, repeat, lambda values=values: values)
        sizes = {"plain": 1.0, **{str(size): 2.0 / size for size in lanes.SIZES}}
        found.once("lanes", "sizes", repeat, lambda sizes=sizes: sizes)
        losses = {"one pass": 1.0, "packs of one": 2.0 + repeat}
        found.once("lanes", "losses", repeat, lambda losses=losses: losses)
    for count in (1000, 10_000):
        found.once("scale", f"driver, {count}", 0, lambda: {"mb": 3.25, "seconds": 1.0})
    return found


def test_the_tables_hold_medians_of_paired_repeats(tmp_path: Path):
    found = made_up(tmp_path / "speed.json")
    cores = found.head["machine"]["cores"]
    text = report.markdown(found, full=False)
    line = next(line for line in text.splitlines() if line.startswith("| shell"))
    assert line.split(" | ")[-1] == "2.08 × |"  # of 2.0, 25/12 and 24/11 the middle one
    ours = next(line for line in text.splitlines() if line.startswith("| sweep |"))
    assert ours.split(" | ")[1:3] == ["11.0", f"{16 / (11 * cores):.2f}"]
    assert ours.split(" | ")[6] == "50" and line.split(" | ")[6] == ""
    on_slurm = next(line for line in text.splitlines() if line.startswith("| sweep on slurm |"))
    assert on_slurm.split(" | ")[3] == "8.0 (7.0)"
    assert "| time per trial | 2.00 | 1.00 | 0.50 |" in text
    assert "8 trials with as many kinds of loss take 3.00 times as long in packs of one" in text
    assert "| driver's queue, MB | 3.2 | 3.2 |" in text
    assert "| driver's queue, s | 1.00 | 1.00 |" in text
    assert "submitit" not in text.split("### Systems")[1]


def test_the_gap_is_between_packs_of_one_worker():
    packs = [(0.0, 9.75), (10.0, 12.0), (12.5, 14.0), (1.0, 11.0), (11.25, 20.0)]
    assert systems.gap(packs) == 0.25  # of .25, .25 and .5
    assert math.isnan(systems.gap([(3.0, 5.0), (4.0, 6.0)]))


def test_a_page_keeps_what_stands_around_the_tables(tmp_path: Path):
    page = tmp_path / "README.md"
    page.write_text("# Results\n\nbefore\n")
    report.put("## Speed\none\n", page, full=False)
    report.put("## Speed, full form\n", page, full=True)
    page.write_text(page.read_text() + "after\n")
    report.put("## Speed\ntwo\n", page, full=False)
    text = page.read_text()
    assert text.startswith("# Results\n\nbefore\n\n") and text.endswith("after\n")
    assert "two" in text and "one" not in text and text.count("## Speed") == 2
