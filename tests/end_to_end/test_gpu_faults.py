"""Faults of a GPU, raised in real workers of a real driver: what becomes of packs and processes."""

import os
import subprocess

import pytest

from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import command, write_spec

pytestmark = pytest.mark.slow

SICK = "CUDA error: uncorrectable ECC error encountered"
ASSERT = "CUDA error: device-side assert triggered"
FULL = "CUDA out of memory"
# Each fault is a file; whichever worker renames it first meets it, in place of training.
HOOK = f"""
import importlib.abc
import importlib.machinery
import os
import sys


class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "training.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def load(module):
            run(module)
            module.train = fails_first(module.train)

        spec.loader.exec_module = load
        return spec


def fails_first(train):
    def train_or_fail(*args, **kwargs):
        import torch

        folder = os.environ["TEST_FAULTS"]
        for text in ({SICK!r}, {ASSERT!r}, {FULL!r}):
            try:
                os.rename(f"{{folder}}/{{text}}", f"{{folder}}/met {{text}}")
            except OSError:
                continue
            raise (torch.OutOfMemoryError if text == {FULL!r} else RuntimeError)(text)
        return train(*args, **kwargs)

    return train_or_fail


sys.meta_path.insert(0, Hook())
"""


def test_faults_of_a_gpu_cost_processes_and_attempts_but_no_trial(tmp_path):
    faults, site, results = tmp_path / "faults", tmp_path / "site", tmp_path / "results"
    for folder in (faults, site):
        folder.mkdir()
    for text in (SICK, ASSERT, FULL):
        (faults / text).touch()
    (site / "sitecustomize.py").write_text(HOOK)
    profile = tmp_path / "two.yaml"
    profile.write_text("kind: local\nworkers: 2\nlanes_max: 4\n")
    spec = write_spec(tmp_path, seeds=4)
    done = subprocess.run(
        command("launch", spec, "--results", results, "--cluster", profile),
        env={**os.environ, "PYTHONPATH": str(site), "TEST_FAULTS": str(faults)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = Folder(results / "small")
    state, told = events.progress(folder), events.read_events(folder)
    assert len(state.done) == len(state.trials) == 32
    failed = [event["failure"] for event in told if event["event"] == "failed"]
    assert sorted(failed) == ["bug", "gpu_memory", "sick_gpu"]
    (split,) = [event for event in told if event["event"] == "split"]
    assert [len(ids) for ids in split["into"].values()] == [2, 2]
    # Two processes began; two met a CUDA fault and were replaced. Out of memory ends none.
    assert len(list(folder.logs.iterdir())) == 4
    assert list(folder.checkpoints.iterdir()) == []
