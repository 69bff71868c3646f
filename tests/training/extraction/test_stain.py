from pathlib import Path

import numpy as np
import pytest
import torchstain
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.errors import DataError
from training.extraction import stain


def tile(folder: Path, name: str) -> np.ndarray:
    with Image.open(folder / name) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="session")
def pair(he_tiles: Path) -> tuple[np.ndarray, np.ndarray]:
    names = ("nctcrc_TUM-AEPINLNQ.png", "nctcrc_TUM-EWFNFSQL.png")
    source, target = (tile(he_tiles, name) for name in names)
    return source, target


def synthetic() -> np.ndarray:
    """Tissue of two known stains in known amounts, with glass."""
    generator = np.random.default_rng(0)
    amounts = generator.gamma(2.0, 0.5, size=(40, 40, 2)) * generator.integers(0, 2, (40, 40, 2))
    densities = amounts @ stain.PUBLISHED.colours.T
    return np.clip(240 * np.exp(-densities), 0, 255).astype(np.uint8)


def test_stains_are_those_of_a_second_implementation(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for picture in pair:
        theirs = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
        theirs.fit(picture)
        ours = stain.stains(picture.reshape(-1, 3))
        np.testing.assert_allclose(ours.colours, theirs.HERef, atol=1e-9)
        np.testing.assert_allclose(ours.most, theirs.maxCRef, atol=1e-9)


def test_stains_of_known_mixtures_are_found() -> None:
    found = stain.stains(stain.tissue(synthetic()))
    expected = stain.PUBLISHED.colours / np.linalg.norm(stain.PUBLISHED.colours, axis=0)
    np.testing.assert_allclose(found.colours, expected, atol=0.05)


def test_restained_pixels_are_those_of_a_second_implementation(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    source, target = pair
    theirs = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
    theirs.fit(target)
    expected, _, _ = theirs.normalize(source, stains=False)
    fits = [stain.stains(picture.reshape(-1, 3)) for picture in pair]
    light = stain.GLASS - 1
    densities = stain.density(source.astype(np.float32), light) @ stain.restaining(*fits)
    ours = np.clip(stain.picture(densities, light), 0, 255)
    # theirs forgets the 1 that it added before the logarithm, and cuts decimals
    assert np.abs(ours - expected).max() <= 2


def test_restaining_to_the_same_stains_changes_no_mixture_of_them() -> None:
    matrix = stain.restaining(stain.PUBLISHED, stain.PUBLISHED)
    mixtures = np.random.default_rng(0).random((20, 2)) @ stain.PUBLISHED.colours.T
    np.testing.assert_allclose(mixtures @ matrix, mixtures, atol=1e-12)


def test_lab_statistics_are_those_of_a_second_implementation(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    source, target = pair
    theirs = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
    theirs.fit(target)
    mean, deviation = stain.spread(target.reshape(-1, 3).astype(np.float32))
    np.testing.assert_allclose(mean, theirs.target_means, atol=1e-2)
    np.testing.assert_allclose(deviation, theirs.target_stds, atol=1e-2)
    expected = theirs.normalize(source)
    before = stain.spread(source.reshape(-1, 3).astype(np.float32))
    factor = deviation / before[1]
    moved = stain.lab(source.astype(np.float32)) * factor + (mean - before[0] * factor)
    assert np.abs(stain.from_lab(moved) - expected).max() <= 1.5  # theirs cuts decimals


def test_lab_of_pure_colours_is_as_published() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.float32)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]
    np.testing.assert_allclose(stain.lab(colours), expected, atol=0.02)


@given(st.lists(st.tuples(*3 * [st.integers(0, 255)]), min_size=1, max_size=50))
def test_lab_and_density_can_be_undone(colours: list[tuple[int, int, int]]) -> None:
    rgb = np.array(colours, np.float32)
    np.testing.assert_allclose(stain.from_lab(stain.lab(rgb)), rgb, atol=0.05)
    np.testing.assert_allclose(stain.picture(stain.density(rgb)), rgb, atol=0.01)


def test_glass_alone_has_no_stain() -> None:
    with pytest.raises(DataError) as error:
        stain.tissue(np.full((50, 50, 3), 240, np.uint8))
    assert error.value.message == "0 pixels of stained tissue, expected at least 200"


def test_one_stain_alone_is_refused() -> None:
    pale = np.full((500, 3), [255, 180, 255], np.float32)
    with pytest.raises(DataError, match=r"0 pixels show both stains, expected at least 200"):
        stain.stains(pale)
