"""What each command costs a login node at 10,000 trials: `python -m tests.end_to_end.login_budget`.

Makes a synthetic results folder with the functions that make real ones (a plan, the events of 600
packs, pilots, segments without content), runs every command in it and prints a Markdown table.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from orchestrator import plan, spec, store
from orchestrator.events import Journal
from orchestrator.folder import Folder, write_file
from training import simulate
from training.data import index
from training.simulation_config import Simulation

NUM_TRIALS = 10_000
TRIALS_PER_SEED = 20
LANES_MAX = 17
DONE_SHARE = 0.9
PILOTS = 12
SPEC: dict[str, Any] = {
    "task": {"kind": "binary"},
    "encoders": ["tiny"],
    "folds": {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": 4},
    "unseen_scanners": ["E"],
    "head": {"kind": "attention", "embed_dims": [8], "attention_dim": 4},
    "arms": {
        "erm": {"views": "routine"},
        "all_scans": {"views": "all"},
        "infonce": {"views": "all", "losses": {"embedding": {"kind": "infonce"}}},
        "score": {
            "views": "all", "losses": {"score": {"kind": "score"}},
            "grid": {"losses.score.weight": [0.1, 1]},
        },
    },
}  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "status": ["status", "wide"],
    "status --json": ["status", "wide", "--json"],
    "status --failed": ["status", "wide", "--failed"],
    "status --trial": ["status", "wide", "--trial", "TRIAL"],
    "logs": ["logs", "wide"],
    "logs --failed": ["logs", "wide", "--failed"],
    "logs TRIAL": ["logs", "wide", "TRIAL"],
    "launch --dry-run": ["launch", "SPEC", "--dry-run", "--cluster", "local"],
    "resume --dry-run": ["resume", "wide", "--dry-run", "--cluster", "local"],
    "hold": ["hold", "wide"],
    "hold --release": ["hold", "wide", "--release"],
    "cancel --where": ["cancel", "wide", "--where", "arm=score"],
    "doctor": ["doctor"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """A synthetic sweep: the folder of all sweeps, its spec, the id of a trial that failed."""

    results: Path
    spec: Path
    trial: str


def make(root: Path, *, num_trials: int = NUM_TRIALS, packs_min: int = 600) -> Wide:
    """Write a sweep of which nine tenths are done; 20 trials make a seed."""
    path, folder = root / "wide.yaml", Folder(root / "results" / "wide")
    cohort = Simulation.model_validate(
        {"dev_patients": 24, "test_patients": 16, "min_tiles": 2, "max_tiles": 3,
         "encoders": {"tiny": {"dim": 4}}}
    )  # fmt: skip
    simulate.write(cohort, root / "data")
    content = {"data": str(root / "data"), **SPEC, "seeds": num_trials // TRIALS_PER_SEED}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    sweep = spec.read(path)
    made = plan.make(
        spec.expand(sweep), dataset=index.read(root / "data"), lanes_max=LANES_MAX,
        packs_min=packs_min,
    )  # fmt: skip
    folder.create()
    write_file(folder.spec, yaml.safe_dump(sweep.document(), sort_keys=False).encode())
    code = {"commit": "0" * 40, "clean": True, "time": 0}
    write_file(folder.code, json.dumps(code).encode())
    store.write_plan(folder, made.frame())
    packs = {pack.id: [trial.id for trial in pack.trials] for pack in made.packs}
    _events(folder, packs, trials=made.trial_ids, cells=made.num_cells)
    return Wide(results=folder.root.parent, spec=path, trial=list(packs.values())[-1][0])


def _events(folder: Folder, packs: dict[str, list[str]], *, trials: list[str], cells: int) -> None:
    """Tell of a driver whose pilots trained nine tenths and met a fault in the last pack."""
    launch, driver = Journal(folder, "launch"), Journal(folder, "driver")
    launch.write(
        "planned", trials=trials, cells=cells, packs=packs, retried=trials, cluster="local",
        mode="all", max_gpu_hours=None, price=None,
    )  # fmt: skip
    jobs = [f"77_{number}" for number in range(PILOTS)]
    for job, role in [("76", "driver"), *((job, "pilot") for job in jobs)]:
        launch.write("submitted", role=role, job=job, size="normal", gpus=1, by="launch", tag="t")
    driver.write("driving", host="h", pid=1, job="76", packs=len(packs))
    for job in jobs:
        pilot = Journal(folder, "pilot")
        pilot.write("started", job=job, node="n", host="h", gpus=1, size="normal", walltime_s=3600)
        pilot.write("joined", job=job)
        pilot.write("left", job=job, reason="time limit", seconds=3600, oom_kills=0)
    names = list(packs)
    for number, pack in enumerate(names[: round(DONE_SHARE * len(names))]):
        place = {"pilot": jobs[number % PILOTS], "node": "n"}
        driver.write("assigned", pack=pack, attempt=1, worker="w", **place)
        driver.write(
            "accepted", pack=pack, attempt=1, worker="w", failed={}, seconds=60.0, kind="k",
            lanes=len(packs[pack]), device="cpu",
        )  # fmt: skip
        (folder.segments / f"{pack}-1").mkdir(mode=0o700)
    for attempt in (1, 2):
        driver.write(
            "assigned", pack=names[-1], attempt=attempt, worker="w", pilot=jobs[0], node="n"
        )
        driver.write(
            "failed", pack=names[-1], attempt=attempt, worker="w", failure="bug", message="E: m",
            trace="Traceback\nE: m", final=attempt == 2, pilot=jobs[0], node="n", signature="s",
        )  # fmt: skip
    driver.write("ended", job="76", done=9000, failed=17, reason="", message="")
    launch.write("launched")


def measure(wide: Wide, name: str) -> dict[str, Any]:
    """Run a command and count what it does."""
    words = {"SPEC": str(wide.spec), "TRIAL": wide.trial}
    arguments = [words.get(word, word) for word in COMMANDS[name]]
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        program = str(Path(__file__).with_name("audited.py"))
        command = [sys.executable, program, out.name, str(wide.results), *arguments]
        done = subprocess.run(
            [*command, "--results", str(wide.results)],
            capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads(Path(out.name).read_text())
    return {**value, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        wide = make(Path(scratch).resolve())
        click.echo("| command | processes | of these SLURM's | files read | folders listed | files "
                   "written | CPU s | MB |")  # fmt: skip
        click.echo("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name in COMMANDS:
            found = measure(wide, name)
            keys = ("processes", "slurm", "read", "listed", "written", "cpu_s", "memory_mb")
            cells = " | ".join(str(found[key]) for key in keys)
            click.echo(f"| `{name}` | {cells} |")
            if found["code"] not in (0, 1, None):
                click.echo(f"{name}: code {found['code']} {found['stderr'][:300]}", err=True)


if __name__ == "__main__":
    main()
