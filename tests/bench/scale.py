"""What the orchestrator takes for 1,000, 10,000 and 100,000 trials; each number in a fresh process.

`python -m tests.bench.scale WHAT TRIALS FOLDER` prints one JSON value.
"""

import gc
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from orchestrator import events, jobs_left, plan, segment, spec, store
from orchestrator.broker import Broker
from orchestrator.events import Journal
from orchestrator.folder import Folder
from tests.end_to_end import login_budget
from training import simulate, trainer
from training.data import index
from training.simulation_config import Simulation

COHORT = {
    "dev_patients": 24,
    "test_patients": 16,
    "min_tiles": 2,
    "max_tiles": 3,
    "encoders": {"tiny": {"dim": 4}},
}
LANES_MAX = 16
LONGEST_S = 900


def measure(what: str, num_trials: int, folder: Path) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.scale", what, str(num_trials), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        raise RuntimeError(f"{what} of {num_trials} trials: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def plan_of(num_trials: int, folder: Path, *, cells: int) -> dict[str, float]:
    """Read, expand, name and pack a spec of this many trials in so many cells."""
    data = _data(folder)
    path = folder / "wide.yaml"
    weights = [round(0.001 * (number + 1), 6) for number in range(min(cells, 100))]
    rates = [round(1e-6 * (number + 1), 9) for number in range(-(-cells // 100))]
    content: dict[str, Any] = login_budget.SPEC | {
        "data": str(data), "seeds": num_trials // (len(weights) * len(rates)),
        "folds": {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": 1},
        "arms": {
            "score": {
                "views": "all", "losses": {"score": {"kind": "score"}},
                "grid": {"losses.score.weight": weights, "optim.lr": rates},
            }
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    dataset = index.read(data)
    # What is imported on first use is not the sweep's size.
    small = folder / "small.yaml"
    small.write_text(yaml.safe_dump(content | {"seeds": 1, "arms": {"erm": {"views": "routine"}}}))
    plan.make(spec.expand(spec.read(small)), dataset=dataset, lanes_max=2)
    gc.collect()
    began, began_cpu = time.perf_counter(), time.process_time()
    rows = spec.expand(spec.read(path))
    made = plan.make(rows, dataset=dataset, lanes_max=LANES_MAX, packs_min=2)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    assert len(made.trials) == num_trials == made.num_to_train
    return {"seconds": seconds, "cpu_s": cpu_s, "packs": float(len(made.packs))}


def commands(num_trials: int, folder: Path) -> dict[str, float]:
    """Time `status` and `aggregate` of a sweep with results, as processes, and count its files."""
    root = folder / f"wide-{num_trials}"
    if not (root / "whole").exists():
        wide = login_budget.make(_empty(root), num_trials=num_trials, packs_min=2)
        _fill(Folder(wide.results / "wide"))
        (root / "whole").touch()
    results = root / "results"
    sweep = str(Path(sys.executable).with_name("sweep"))
    found = {}
    flags = ["--allow-missing", "--no-intervals"]
    for name, words in (("status", []), ("aggregate", flags), ("intervals", flags[:1])):
        times = []
        for _ in range(1 if name == "intervals" or num_trials > 10_000 else 3):
            began = time.perf_counter()
            command = [
                sweep,
                "status" if name == "status" else "aggregate",
                "wide",
                *words,
                "--results",
                str(results),
                "--quiet",
            ]
            subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False)
            times.append(time.perf_counter() - began)
        found[name] = min(times)
    found["files"] = float(sum(1 for path in results.rglob("*") if path.is_file()))
    return found


def driver(num_trials: int, folder: Path) -> dict[str, float]:
    """Make the broker of a sweep of which nothing is done; MB that the process grows by."""
    for count in (20, num_trials):
        measure("queue", count, folder)  # elsewhere: what planning frees would hide the growth
    jobs_left.read_jobs(_queue(20, folder))  # imports
    process, wide = psutil.Process(), _queue(num_trials, folder)
    gc.collect()
    before, began = process.memory_info().rss, time.perf_counter()
    jobs = jobs_left.read_jobs(wide)
    broker = Broker(jobs, attempts={}, journal=Journal(wide, "driver"))
    seconds = time.perf_counter() - began
    gc.collect()
    assert broker.state()["total"] == num_trials
    return {"mb": (process.memory_info().rss - before) / 1e6, "seconds": seconds}


def queue(num_trials: int, folder: Path) -> dict[str, float]:
    """Write a sweep of which nothing is done."""
    wide = _queue(num_trials, folder)
    login_budget.make(_empty(wide.root.parents[1]), num_trials=num_trials, packs_min=2)
    for path in wide.events.glob("driver*"):
        path.unlink()
    for path in wide.segments.iterdir():
        path.rmdir()
    return {}


def _queue(num_trials: int, folder: Path) -> Folder:
    return Folder(folder / f"queue-{num_trials}" / "results" / "wide")


def _empty(root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)  # of a call that was killed
    root.mkdir(parents=True)
    return root


def _data(folder: Path) -> Path:
    if not (folder / "data").exists():
        simulate.write(Simulation.model_validate(COHORT), folder / "data")
    return folder / "data"


def _fill(folder: Folder) -> None:
    """Give every pack a segment with the results of one trained trial."""
    planned = store.read_plan(folder).drop_duplicates("trial").set_index("trial")
    configs = planned["config"]
    config = spec.TrialConfig.model_validate_json(configs.iloc[0])
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"epochs": 2})})
    dataset = index.read(folder.root.parents[1] / "data")
    (result,) = trainer.train([config], dataset)
    journal, done = Journal(folder, "driver"), events.progress(folder)
    shared = {"seconds": 1.0, "device": "cpu", "started": events.now(), **segment.version("")}
    for pack, trials in done.packs.items():
        place = folder.segments / f"{pack}-1"
        if place.exists():
            place.rmdir()
        else:
            journal.write(
                "accepted", pack=pack, attempt=1, worker="w", failed={}, seconds=1.0, kind="k",
                lanes=len(trials), device="cpu",
            )  # fmt: skip
        rest = shared | {"pack": pack, "attempt": 1}
        tables = segment.tables(trials, [result] * len(trials), rest)
        store.write_segment(folder, pack, 1, tables=tables, artefacts={})


def main() -> None:
    """Print what was measured."""
    what, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    match what:
        case "plan, 100 cells":
            found = plan_of(count, folder, cells=100)
        case "plan, a cell per trial":
            found = plan_of(count, folder, cells=count)
        case "commands":
            found = commands(count, folder)
        case "queue":
            found = queue(count, folder)
        case "driver":
            found = driver(count, folder)
        case _:
            raise SystemExit(f"nothing is called {what!r}")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
