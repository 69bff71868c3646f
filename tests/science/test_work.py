"""A tiny world of two cohorts, computed for real, killed, and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.science import cohort, settings, work
from tests.science.settings import ARMS, WORLDS, Arm, World

ROOT = Path(__file__).parents[2]
SMALL = {
    "dev_patients": 24, "test_patients": 8, "min_tiles": 4, "max_tiles": 6, "paired_share": 0.5,
}  # fmt: skip
NAMES = ("erm", "all_scans", "infonce", "score, augmented pairs", "mean over scans")
PROGRAM = """
from pathlib import Path
from tests.science import test_work
if __name__ == "__main__":
    test_work.go(Path({out!r}), workers=1)
"""


def plan() -> work.Plan:
    shorter = {"optim": {"epochs": 2}}
    world = World(name="tiny 1 %", says="", simulation=SMALL, change=shorter)
    arms = [(arm, arm.chosen) for arm in ARMS if arm.name in NAMES]
    return work.Plan(settings="test", commit="c", cohorts=[(world, 1), (world, 2)], arms=arms)


def go(out: Path, *, workers: int, minutes: float = 5) -> list[work.Stored]:
    return work.compute(plan(), out, workers=workers, minutes=minutes, say=print)


def records(found: list[work.Stored]) -> list[object]:
    return [(each["seed"], each["records"]) for each in found]


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def wait(until: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_call_goes_on_with_the_same_numbers_and_leaves_no_process(tmp_path: Path) -> None:
    out, calm = tmp_path / "out", tmp_path / "calm"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(out=str(out)))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(program)], cwd=ROOT, env=environment)
    first = out / "tiny-1-1.json"
    wait(first.exists)
    workers = children(process.pid)
    assert workers
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait(lambda: all(gone(pid) for pid in workers))
    kept = first.stat().st_mtime_ns
    (out / "tiny-1-2.json").write_text('{"settings": "te')  # torn, as a file system may leave it
    found = go(out, workers=2)
    assert first.stat().st_mtime_ns == kept
    assert not (out / "scratch").exists()
    assert records(found) == records(go(calm, workers=1))
    assert [each["seed"] for each in found] == [1, 2]
    table = cohort.frame(found[0]["records"]).set_index("arm")
    assert set(table.index) == {*NAMES}
    assert table["auroc"].between(0, 1).all() and (table["failure"] == "").all()
    assert table.loc["mean over scans", "inconsistency"] == 0
    assert (table["oracle_distance"] > 0).all()


def test_files_of_other_settings_or_arms_do_not_count(tmp_path: Path) -> None:
    it, (world, seed) = plan(), plan().cohorts[0]
    stored = {"settings": it.digest(), "seed": seed}
    (tmp_path / "tiny-1-1.json").write_text(json.dumps(stored))
    assert work.read(it, tmp_path, world, seed) == stored
    assert work.read(replace(it, settings="other"), tmp_path, world, seed) is None
    assert work.read(replace(it, arms=it.arms[:1]), tmp_path, world, seed) is None
    assert work.stored(it, tmp_path) == [stored]


def test_two_calls_do_not_compute_in_one_folder(tmp_path: Path) -> None:
    with (
        work._alone(tmp_path),
        pytest.raises(work.ScienceError, match="another call"),
        work._alone(tmp_path),
    ):
        pass


def test_the_oracle_lies_beside_the_test_slides_and_is_what_no_scanner_touched(
    tmp_path: Path,
) -> None:
    world = World(name="tiny", says="", simulation=SMALL)
    config = cohort.simulation(world, 3, augmented=True)
    dataset = cohort.write_data(config, tmp_path)
    index = dataset.index
    clean = index[index["scanner"] == settings.ORACLE]
    test = index[(index["cohort"] == "test") & (index["scanner"] != settings.ORACLE)]
    assert set(clean["slide"]) == {f"{slide}-{settings.ORACLE}" for slide in test["slide"]}
    assert set(clean["cohort"]) == {"test"}
    assert (index["source_scan"] != "").sum() == (index["cohort"] == "dev").sum() / 2
    none = cohort.simulation(replace(WORLDS[-2], simulation=SMALL), 3, augmented=False)
    assert not (cohort.write_data(none, tmp_path / "none").index["source_scan"] != "").any()


def test_a_copy_has_the_setting_of_its_arm_and_its_own_change() -> None:
    arms = {arm.name: arm for arm in ARMS}
    chosen = arms["infonce"].tried[arms["infonce"].chosen]
    assert cohort.change(arms["infonce, shuffled pairs"]) == {**chosen, "pairs": "shuffled"}
    assert cohort.change(Arm(name="x", family="", change={"optim": {"lr": 1.0}}, tried=({},))) == {
        "optim": {"lr": 1.0}
    }
