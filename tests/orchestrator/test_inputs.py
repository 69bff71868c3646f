import os

import pytest

from orchestrator import inputs, spec
from orchestrator.errors import SpecError
from tests.orchestrator import finished
from training.errors import DataError


@pytest.fixture(scope="module", autouse=True)
def simulated_once():
    """Nothing is copied here: this is the test of what writes it."""


@pytest.fixture
def sweep(tmp_path):
    return spec.read(finished.write_spec(tmp_path))


@pytest.fixture(params=[0o000, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(root):
    return {path.stat().st_mode & 0o777 for path in (root.parent, root, *root.rglob("*"))}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("share", "expected"), [("private", {0o700, 0o600}), ("group", {0o750, 0o640})]
)
def test_simulated_data_are_readable_as_the_profile_says(sweep, tmp_path, share, expected):
    place = inputs.path(sweep, tmp_path / "results")
    inputs.simulate(sweep, place, share=share)
    assert modes(place) == expected


def test_simulated_data_are_made_once(sweep, tmp_path):
    place = inputs.path(sweep, tmp_path / "results")
    inputs.simulate(sweep, place)
    before = (place / "index.parquet").stat().st_mtime_ns
    inputs.simulate(sweep, place)
    assert (place / "index.parquet").stat().st_mtime_ns == before
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_data_that_are_not_there_are_none_and_wrong_ones_are_refused(sweep, tmp_path):
    rows = spec.expand(sweep)
    assert inputs.read(tmp_path / "nothing", rows) is None
    (tmp_path / "empty").mkdir()
    with pytest.raises((DataError, SpecError)):
        inputs.read(tmp_path / "empty", rows)
