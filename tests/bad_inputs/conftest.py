"""One small data set and one finished sweep of it, shared by all tests of this package."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_inputs import inputs


@pytest.fixture(scope="package", autouse=True)
def quiet_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own profiles and settings, and SLURM, out of these tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("SWEEP_", "SLURM_"))]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("HOME", str(home))
        patch.setenv("SWEEP_CLUSTER", "local")
        yield


@pytest.fixture(scope="package")
def sound_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound data folder that nobody may change."""
    return inputs.write_data(tmp_path_factory.mktemp("sound") / "data")


@pytest.fixture
def data(tmp_path: Path, sound_data: Path) -> Path:
    """Return a copy of the sound data folder, to be spoilt."""
    return Path(shutil.copytree(sound_data, tmp_path / "data"))


@pytest.fixture(scope="package")
def sound_results(tmp_path_factory: pytest.TempPathFactory, sound_data: Path) -> Path:
    """Return the results folder of a sweep whose trials are all done."""
    return inputs.write_results(tmp_path_factory.mktemp("results"), sound_data)


@pytest.fixture
def results(tmp_path: Path, sound_results: Path) -> Path:
    """Return a copy of the results folder of a finished sweep, to be spoilt."""
    shutil.copytree(sound_results, tmp_path / "results")
    return tmp_path / "results"
