import numpy as np
import pytest
from scipy import ndimage

from training.extraction import starting
from training.extraction.starting import Picture


def blobs(*, seed: int = 0, um_per_px: tuple[float, float] = (10.0, 10.0)) -> Picture:
    """Make a piece of tissue without symmetry, on glass."""
    noise = np.random.default_rng(seed).normal(size=(90, 120))
    inside = np.zeros((90, 120), bool)
    inside[20:70, 25:60] = inside[40:75, 50:95] = True
    grey = np.clip(0.5 + 2 * ndimage.gaussian_filter(noise, 3), 0, None)
    return Picture(grey=(grey * inside).astype(np.float32), inside=inside, um_per_px=um_per_px)


def turned(picture: Picture, times: int) -> Picture:
    return Picture(
        grey=np.ascontiguousarray(np.rot90(picture.grey, times)),
        inside=np.ascontiguousarray(np.rot90(picture.inside, times)),
        um_per_px=picture.um_per_px,
    )


def error_um(rigid: np.ndarray, points: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(points @ rigid[:, :2].T + rigid[:, 2] - expected).max())


@pytest.mark.parametrize("times", [1, 2])
def test_quarter_turns_are_found(times: int) -> None:
    fixed = blobs()
    rigid = starting.find(fixed, turned(fixed, times), angle_step=90.0, min_overlap=0.5)
    points = np.array([[300.0, 300.0], [900.0, 700.0]])
    around = points - [600, 450]
    for _ in range(times):  # rot90 turns what is right of the centre to above it
        around = np.stack([around[:, 1], -around[:, 0]], axis=1)
    centre = [600, 450] if times % 2 == 0 else [450, 600]
    assert error_um(rigid, points, around + centre) < 20


def test_a_shift_and_another_scale_of_the_picture_are_found() -> None:
    fixed = blobs()
    shifted = Picture(
        grey=np.roll(fixed.grey, (8, -12), (0, 1)).repeat(2, 0),
        inside=np.roll(fixed.inside, (8, -12), (0, 1)).repeat(2, 0),
        um_per_px=(10.0, 5.0),
    )
    rigid = starting.find(fixed, shifted, angle_step=90.0, min_overlap=0.5)
    points = np.array([[300.0, 300.0], [900.0, 700.0]])
    assert error_um(rigid, points, points + np.array([-120, 80])) < 20


def test_nothing_to_see_gives_some_rigid_map() -> None:
    blank = Picture(
        grey=np.zeros((30, 40), np.float32), inside=np.zeros((30, 40), bool), um_per_px=(1.0, 1.0)
    )
    rigid = starting.find(blank, blank, angle_step=90.0, min_overlap=0.5)
    assert np.isfinite(rigid).all()
    assert np.linalg.det(rigid[:, :2]) == pytest.approx(1)


def test_a_picture_is_shrunk_by_averages() -> None:
    picture = Picture(
        grey=np.arange(20, dtype=np.float32).reshape(4, 5),
        inside=np.eye(4, 5, dtype=bool),
        um_per_px=(2.0, 3.0),
    )
    small = starting.shrunk(picture, 2.2)
    np.testing.assert_array_equal(small.grey, [[3, 5], [13, 15]])
    np.testing.assert_array_equal(small.inside, [[0.5, 0], [0, 0.5]])
    assert small.um_per_px == (4.0, 6.0)
    assert starting.shrunk(picture, 0.3).grey.shape == (4, 5)
