"""A simulated cohort is written once by a process, and copied to every test that asks for it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import inputs, spec
from orchestrator.spec_model import Spec


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the cohorts that were simulated so far."""
    return tmp_path_factory.mktemp("cohorts")


@pytest.fixture(scope="module", autouse=True)
def simulated_once(cohorts: Path) -> Iterator[None]:
    """Let preparations copy a cohort that was simulated before; its bytes are the same."""
    simulate = inputs.simulate

    def copy(sweep: Spec, path: Path, **given: object) -> None:
        if sweep.simulation is None or path.is_dir():
            return
        known = cohorts / spec.simulation_id(sweep.simulation)
        if known.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(known, path)
        else:
            simulate(sweep, path, **given)
            shutil.copytree(path, known)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "simulate", copy)
        yield
