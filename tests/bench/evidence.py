"""What intervals of a large sweep cost: `python -m tests.bench.evidence [--trials N]`.

Writes a sweep of that many trials that nobody trained (5 folds, 5 seeds, 400 held-out patients of
2,000 on two scanners in each fold, validation patients too), and runs `sweep aggregate` on it with
and without intervals. Shows wall and CPU time and peak memory of the command.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

from orchestrator import store
from orchestrator.events import Journal
from orchestrator.folder import Folder

FOLDS, SEEDS, SCANNERS = 5, 5, "AB"
VALIDATION_SHARE = 0.2


def write(root: Path, *, trials: int, patients: int, lanes: int = 50) -> Folder:
    """Write plan, segments and events."""
    folder = Folder(root / "large")
    folder.create()
    folder.spec.write_text(f"name: large\ndata: {root}\n")
    config = json.dumps({"losses": [], "views": "routine"})
    rows = [
        {"cell": cell, "trial": f"{cell:05d}f{fold}s{seed}", "encoder": f"encoder-{cell % 8}",
         "arm": f"arm-{cell // 8}", "fold": fold, "seed": seed, "config": config,
         "fingerprint": f"f{fold}", "pack_family": "k"}
        for cell in range(max(1, trials // (FOLDS * SEEDS)))
        for fold in range(FOLDS)
        for seed in range(SEEDS)
    ]  # fmt: skip
    plan = pd.DataFrame(rows)
    store.write_plan(folder, plan)
    packs = [
        (fold, own["trial"].to_list()[start : start + lanes])
        for fold, own in plan.groupby("fold")
        for start in range(0, len(own), lanes)
    ]
    names = {f"pack{number:05d}": ids for number, (_, ids) in enumerate(packs)}
    Journal(folder, "launch").write(
        "planned", trials=list(plan["trial"]), cells=int(plan["cell"].max()) + 1, packs=names,
        retried=[], cluster="local", mode="all", max_gpu_hours=None, price=None,
    )  # fmt: skip
    driver = Journal(folder, "driver")
    for (pack, ids), (fold, _) in zip(names.items(), packs, strict=True):
        store.write_segment(folder, pack, 1, tables=_tables(pack, ids, int(fold), patients),
                            artefacts={})  # fmt: skip
        driver.write("accepted", pack=pack, attempt=1, worker="w", failed={}, seconds=1.0)
    return folder


def _tables(pack: str, ids: list[str], fold: int, patients: int) -> dict[str, pd.DataFrame]:
    held = np.arange(fold, patients, FOLDS)
    rest = np.setdiff1d(np.arange(patients), held)
    validation = rest[: int(len(rest) * VALIDATION_SHARE)]
    scans = [(p, s, True) for p in held for s in SCANNERS]
    scans += [(p, SCANNERS[0], False) for p in validation]
    label = np.array([p % 2 for p, _, _ in scans], dtype=np.int32)
    own = pd.DataFrame(
        {"patient": [f"patient-{p:06d}" for p, _, _ in scans],
         "slide": [f"patient-{p:06d}-slide" for p, _, _ in scans],
         "view": [f"patient-{p:06d}-slide-{s}" for p, s, _ in scans],
         "scanner": [s for _, s, _ in scans], "cohort": "cohort",
         "part": ["test" if h else "validation" for _, _, h in scans],
         "held_out": [h for _, _, h in scans], "label": label}
    )  # fmt: skip
    random = np.random.default_rng(fold)
    shared = random.normal(size=len(own))
    frames = []
    for trial in ids:
        score = (label - 0.5 + shared + random.normal(size=len(own)) * 0.5).astype(np.float32)
        frames.append(own.assign(trial=trial, score=score))
    told = {"state": "done", "failure": "", "epoch": 1, "epochs_trained": 1, "threshold": 0.0,
            "validation": 0.8, "pack": pack, "attempt": 1, "seconds": 1.0, "device": "cpu",
            "started": "", "commit": "c", "versions": "{}"}  # fmt: skip
    trials = pd.DataFrame([{"trial": trial, "lane": n, **told} for n, trial in enumerate(ids)])
    curves = pd.DataFrame({"trial": ids, "epoch": 1, "quantity": "loss", "value": 1.0})
    return {"trials": trials, "curves": curves, "predictions": pd.concat(frames)}


def measure(results: Path, *flags: str) -> dict[str, float]:
    """Run the command; seconds and GiB."""
    words = [sys.executable, "-c", "from orchestrator.cli import main; main()", "aggregate"]
    began = time.monotonic()
    process = subprocess.Popen(
        [*words, "large", "--results", str(results), "--quiet", *flags], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "wall_s": round(time.monotonic() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
    }


@click.command()
@click.option("--trials", default=10_000, show_default=True, help="Of the sweep.")
@click.option("--patients", default=2000, show_default=True, help="In all folds together.")
def main(trials: int, patients: int) -> None:
    """Write the sweep and measure."""
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), trials=trials, patients=patients)
        for flags in (["--no-intervals"], ["--intervals", "--metric", "auroc"]):
            click.echo(f"{' '.join(flags)}: {measure(Path(scratch), *flags)}")


if __name__ == "__main__":
    main(prog_name="python -m tests.bench.evidence")
