"""A small sweep that was trained in this process, as a worker would, without Ray."""

from collections.abc import Collection
from pathlib import Path

from orchestrator import events, jobs_left, launch, preparation, worker
from orchestrator.folder import Folder
from orchestrator.preparation import Prepared
from orchestrator.worker import Assignment, Setting

SPEC = """\
data:
  simulate:
    dev_patients: 24
    test_patients: 16
    min_tiles: 8
    max_tiles: 12
    encoders: {tiny: {dim: 16}}
task: {kind: binary}
encoders: [tiny]
folds: {kind: cohort, train: [dev], test: [test], num_folds: 2}
unseen_scanners: [E]
seeds: 2
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 8, pairs_per_batch: 4}
optim: {epochs: 2}
arms:
  erm: {views: routine}
  again: {views: routine}
  score:
    views: all
    losses: {score: {kind: score}}
    grid: {losses.score.weight: [0.1, 1]}
"""
CODE = {"commit": "0" * 40, "clean": True, "python": "3.11"}


def write_spec(home: Path, *, name: str = "small", text: str = SPEC) -> Path:
    path = home / f"{name}.yaml"
    path.write_text(text)
    return path


def prepare(spec: Path, results: Path, **given: object) -> Prepared:
    arguments = {"cluster": "local", "write": True, **given}
    return preparation.prepare(spec, results=results, **arguments)


def planned(spec: Path, results: Path, **given: object) -> Prepared:
    """Plan and record a sweep, as a launch does, and train nothing."""
    prepared = prepare(spec, results, **given)
    prepared.folder.create()
    launch._record(prepared, CODE)
    launch._write_planned(prepared, events.Journal(prepared.folder, "launch"), None)
    return prepared


def train(prepared: Prepared, *, without: Collection[str] = ()) -> Folder:
    """Train the planned packs but those that hold one of these trials."""
    folder = prepared.folder
    journal = events.Journal(folder, "driver")
    setting = Setting(
        folder=folder.root, data=prepared.data, device="cpu", code='{"commit": "0", "clean": true}',
        artefacts=prepared.spec.artefacts,
    )  # fmt: skip
    for job in jobs_left.read_jobs(folder):
        ids = {trial for trial, _ in job.trials}
        if ids.intersection(without):
            continue
        found = worker.train(Assignment(job=job, attempt=1), setting, on_epoch=_nothing, stop=bool)
        assert found.failure is None, found
        journal.write(
            "accepted", pack=job.pack, attempt=1, worker="w", failed=found.failed, seconds=1.0
        )
    return folder


def _nothing(_epoch: int, _epochs: int) -> None:
    """Report nowhere."""
