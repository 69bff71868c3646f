import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from training.errors import DataError
from training.extraction import transform
from training.extraction.config_registration import RegistrationConfig
from training.extraction.transform import IDENTITY, Spline, Transform

CONFIG = RegistrationConfig()
NUMBERS = st.floats(-1e6, 1e6)


def spline(seed: int = 0) -> Spline:
    coefficients = np.random.default_rng(seed).normal(size=(2, 5, 7))
    return Spline(origin=(-3.0, 2.0), spacing=(10.0, 20.0), coefficients=coefficients)


def manual(path: Path, affine: object, *, unit: str = "um", mirrored: bool = False) -> Transform:
    path.write_text(json.dumps({"unit": unit, "affine": affine}))
    return transform.read_manual(
        path,
        fixed_mpp=(0.25, 0.25),
        moving_mpp=(0.5, 0.5),
        config=RegistrationConfig(mirrored=mirrored),
    )


def test_a_spline_displaces_as_a_second_implementation_does() -> None:
    """The knots of control point k lie at k - 2 … k + 2."""
    ours = spline()
    points = np.random.default_rng(1).uniform([10, 30], [40, 60], size=(50, 2))
    place = (points - ours.origin) / ours.spacing

    def basis(num: int, values: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                np.nan_to_num(BSpline.basis_element(np.arange(k - 2, k + 3), False)(values))
                for k in range(num)
            ],
            axis=1,
        )

    weights = np.einsum("nr,nc->nrc", basis(5, place[:, 1]), basis(7, place[:, 0]))
    expected = points + np.einsum("nrc,drc->nd", weights, ours.coefficients)
    np.testing.assert_allclose(ours.map(points), expected, atol=1e-12)


def test_nothing_moves_far_from_the_control_points() -> None:
    points = np.array([[-1e4, 0.0], [1e4, 1e4]])
    np.testing.assert_array_equal(spline().map(points), points)


def test_the_parts_are_applied_in_order() -> None:
    start = np.array([[0.0, -1.0, 5.0], [1.0, 0.0, 0.0]])
    affine = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    whole = Transform(start=start, affine=affine)
    np.testing.assert_allclose(whole.map(np.array([[3, 4]])), [[-8 + 5, 7]])
    np.testing.assert_allclose(whole.linear(), [[0, -2], [2, 0]])


@given(st.lists(NUMBERS, min_size=12, max_size=12), st.booleans())
def test_json_keeps_every_bit(values: list[float], smooth: bool) -> None:
    start, affine = np.array(values).reshape(2, 2, 3)
    before = Transform(start=start, affine=affine, spline=spline() if smooth else None)
    after = transform.from_json(json.loads(json.dumps(before.to_json())))
    points = np.random.default_rng(0).uniform(-50, 50, size=(9, 2))
    np.testing.assert_array_equal(after.map(points), before.map(points))
    with pytest.raises(ValueError, match="affine"):
        transform.from_json({"start": start.tolist(), "spline": None})


def test_a_manual_transform_in_pixels_is_one_in_micrometres(tmp_path: Path) -> None:
    """At 0.25 and 0.5 um/px, pixel (40, 80) is (10, 20) um and goes to pixel (30, 20): (15, 10)."""
    affine = [[0.5, 0.0, 10.0], [0.0, 0.5, -20.0]]
    in_px = manual(tmp_path / "a b.json", affine, unit="px")
    np.testing.assert_allclose(in_px.map(np.array([[10.0, 20.0]])), [[15.0, 10.0]])
    in_um = manual(tmp_path / "ü.json", affine)
    np.testing.assert_allclose(in_um.map(np.array([[10.0, 20.0]])), [[15.0, -10.0]])
    np.testing.assert_array_equal(in_um.affine, IDENTITY)


def test_singular_and_mirrored_transforms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for singular in ([[1, 2, 0], [2, 4, 0]], [[0, 0, 5], [0, 0, 5]], [[1, 0, 0], [0, 1e-9, 0]]):
        with pytest.raises(DataError, match=r"t\.json: affine is singular or nearly so"):
            manual(path, singular)
    mirror = [[-1, 0, 90], [0, 1, 0]]
    with pytest.raises(DataError) as error:
        manual(path, mirror)
    assert error.value.message == f"{path}: affine mirrors the slide: its determinant is -1"
    assert "mirrored: true" in error.value.hint
    assert manual(path, mirror, mirrored=True).map(np.array([[30.0, 1.0]])).tolist() == [[60, 1]]


def test_a_file_that_is_no_transform_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    texts = {
        "{": "is not JSON",
        "\ud800": "",
        '{"unit": "mm", "affine": [[1, 0, 0], [0, 1, 0]]}': "unit: Input should be 'um' or 'px'",
        '{"unit": "um", "affine": [[1, 0], [0, 1]]}': "affine.0.2: Field required",
        '{"unit": "um", "affine": [[1, 0, NaN], [0, 1, 0]]}': "affine.0.2: Input should be a fin",
        "[]": "Input should be",
    }
    for text, part in texts.items():
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(DataError) as error:
            transform.read_manual(path, fixed_mpp=(1.0, 1.0), moving_mpp=(1.0, 1.0), config=CONFIG)
        assert str(path) in error.value.message
        assert part in error.value.message
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        gone = tmp_path / "gone.json"
        transform.read_manual(gone, fixed_mpp=(1.0, 1.0), moving_mpp=(1.0, 1.0), config=CONFIG)


@pytest.mark.parametrize("degrees", [-179.0, -90.0, 0.0, 30.0, 180.0])
def test_the_turn_of_a_matrix_is_told(degrees: float) -> None:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = 1.02 * np.array([[cos, -sin], [sin, cos]])
    assert transform.rotation_degrees(matrix) == pytest.approx(degrees)
