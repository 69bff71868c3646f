import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from training.extraction import elastix
from training.extraction.config_registration import RegistrationConfig
from training.extraction.starting import Picture

ROOT = Path(__file__).parents[3]
CONFIG = RegistrationConfig(iterations=100)


def picture(*, by: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).normal(size=(110, 140))
    smooth = ndimage.gaussian_filter(noise, 3)
    grey = ndimage.shift(smooth / smooth.std(), by, order=3, mode="reflect")
    inside = np.zeros(grey.shape, bool)
    inside[15:-15, 15:-15] = True
    return Picture(grey=grey.astype(np.float32), inside=inside, um_per_px=(10.0, 8.0))


@pytest.mark.slow
def test_importing_the_package_loads_no_elastix() -> None:
    code = "import sys, training.extraction.pairing; print([m for m in sys.modules if 'itk' in m])"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout == "[]\n"


@pytest.mark.slow
def test_our_transform_is_elastixs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the composed parameters with elastix's combination of its transforms."""
    itk = elastix._itk()
    method = itk.method.itkElastixRegistrationMethodIF2IF2.New()
    here = SimpleNamespace(itkElastixRegistrationMethodIF2IF2=SimpleNamespace(New=lambda: method))
    monkeypatch.setattr(elastix, "_itk", lambda: itk._replace(method=here))
    start = np.array([[1.0, 0.0, 6.0], [0.0, 1.0, -9.0]])
    found = elastix.refine(picture(), picture(by=(2.0, -3.0)), start, config=CONFIG)
    from itk import itkPointPython

    points = np.random.default_rng(0).uniform(150, 700, size=(20, 2))
    theirs = method.GetCombinationTransform()
    expected = [theirs.TransformPoint(itkPointPython.itkPointD2(each.tolist())) for each in points]
    moved = np.array([[each[0], each[1]] for each in expected]) @ start[:, :2].T + start[:, 2]
    assert np.abs(moved - points).max() > 10
    np.testing.assert_allclose(found.map(points), moved, atol=1e-3)


@pytest.mark.slow
def test_a_shift_under_a_turned_start_is_found_the_same_twice_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed, moved = picture(), picture(by=(2.0, -3.0))
    moving = replace(
        moved,
        grey=np.ascontiguousarray(np.rot90(moved.grey)),
        inside=np.ascontiguousarray(np.rot90(moved.inside)),
        um_per_px=(8.0, 10.0),
    )
    start = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 1400.0]])
    first = elastix.refine(fixed, moving, start, config=CONFIG)
    again = elastix.refine(fixed, moving, start, config=CONFIG)
    assert first.to_json() == again.to_json()
    points = np.random.default_rng(0).uniform(200, 650, size=(50, 2))
    expected = (points + np.array([-30, 16])) @ start[:, :2].T + start[:, 2]
    assert np.median(np.linalg.norm(first.map(points) - expected, axis=1)) < 1.0
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_what_elastix_cannot_do_is_an_error() -> None:
    away = np.array([[1.0, 0.0, 1e6], [0.0, 1.0, 1e6]])
    with pytest.raises(elastix.ElastixError, match="share too little"):
        elastix.refine(picture(), picture(), away, config=CONFIG)
