import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError

from training.errors import DataError
from training.extraction import stain, views
from training.extraction.config_views import AugmentedView


def view(*steps: dict[str, object], name: str = "look") -> AugmentedView:
    return AugmentedView.model_validate({"name": name, "steps": steps})


def look(*steps: dict[str, object], scan: str = "s", seed: int = 0) -> views.Look:
    return views.draw(view(*steps), seed=seed, scan=scan, sample=tissue())


def tissue(*, num: int = 2, seed: int = 0) -> np.ndarray:
    """Make tiles of two stains, smooth as tissue is, with a margin of glass."""
    generator = np.random.default_rng(seed)
    amounts = generator.gamma(2.0, 0.3, size=(num, 8, 8, 2)).repeat(8, 1).repeat(8, 2)
    densities = amounts @ np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    tiles = np.clip(250 * np.exp(-densities), 0, 255).astype(np.uint8)
    tiles[:, :8] = 246
    return tiles


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "tîle 'a'.png"
    Image.fromarray(tissue(num=1, seed=5)[0, 8:]).save(path)
    return path


def every(reference: Path) -> list[dict[str, object]]:
    return [
        {"kind": "hed"},
        {"kind": "reinhard", "reference": str(reference)},
        {"kind": "macenko", "reference": str(reference)},
        {"kind": "macenko"},
        {"kind": "colour"},
        {"kind": "blur", "sigma_px": (0.5, 1.5)},
        {"kind": "jpeg"},
    ]


def still(reference: Path) -> list[dict[str, object]]:
    """Give every step that can be switched off, switched off."""
    return [
        {"kind": "hed", "sigma": 0, "bias": 0},
        {"kind": "reinhard", "reference": str(reference), "strength": 0},
        {"kind": "macenko", "reference": str(reference), "strength": 0},
        {"kind": "colour", "brightness": 0, "contrast": 0, "saturation": 0, "hue_degrees": 0},
        {"kind": "blur", "sigma_px": (0, 0)},
    ]


@settings(max_examples=20, deadline=None)
@given(tiles=arrays(np.uint8, (1, 6, 5, 3)))
def test_steps_of_no_strength_change_nothing(tiles: np.ndarray, reference: Path) -> None:
    shown = views.apply(look(*still(reference)), tiles)
    np.testing.assert_array_equal(shown, tiles)


def test_every_step_changes_tissue_and_leaves_its_input(reference: Path) -> None:
    tiles = tissue()
    for step in every(reference):
        given_tiles = tiles.copy()
        shown = views.apply(look(step), given_tiles)
        assert (shown.dtype, shown.shape) == (np.uint8, tiles.shape)
        assert np.any(shown != tiles), step
        np.testing.assert_array_equal(given_tiles, tiles)


def test_glass_stays_white(reference: Path) -> None:
    glass = np.random.default_rng(0).integers(238, 256, size=(1, 32, 32, 3), dtype=np.uint8)
    for step in every(reference):
        for seed in range(5):
            shown = views.apply(look(step, seed=seed), glass).astype(int)
            assert np.abs(shown - glass).max() <= 18, step
            assert shown.min() > 215


def test_one_look_serves_all_tiles_of_a_scan(reference: Path) -> None:
    tiles = tissue(num=3)
    drawn = look(*every(reference))
    together = views.apply(drawn, tiles)
    for number in range(3):
        alone = views.apply(drawn, tiles[number : number + 1])
        np.testing.assert_array_equal(alone[0], together[number])


def test_a_look_is_drawn_from_seed_scan_and_name(reference: Path) -> None:
    tiles = tissue()
    steps = every(reference)
    first = views.apply(look(*steps), tiles)
    np.testing.assert_array_equal(views.apply(look(*steps), tiles), first)
    packed = pickle.loads(pickle.dumps(look(*steps)))
    np.testing.assert_array_equal(views.apply(packed, tiles), first)
    for other in (look(*steps, scan="t"), look(*steps, seed=1)):
        assert np.any(views.apply(other, tiles) != first)
    renamed = views.draw(view(*steps, name="other"), seed=0, scan="s", sample=tissue())
    assert np.any(views.apply(renamed, tiles) != first)


def test_a_step_more_moves_no_draw_of_the_steps_before() -> None:
    drawn = look({"kind": "hed"}, {"kind": "colour"})
    longer = look({"kind": "hed"}, {"kind": "colour"}, {"kind": "blur", "sigma_px": (0, 0)})
    np.testing.assert_array_equal(views.apply(drawn, tissue()), views.apply(longer, tissue()))


def normalised(kind: str, reference: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the tissue of a scan, of its view, and of the reference."""
    with Image.open(reference) as picture:
        target = np.asarray(picture)
    scan = (255 - (255 - tissue(seed=3).astype(float)) * [0.8, 0.7, 0.6]).astype(np.uint8)
    step = {"kind": kind, "reference": str(reference)}
    shown = views.apply(views.draw(view(step), seed=0, scan="s", sample=scan), scan)
    return stain.tissue(scan), stain.tissue(shown), stain.tissue(target)


def test_a_view_by_reinhard_has_the_colours_of_the_reference(reference: Path) -> None:
    found = [np.stack(stain.spread(each)) for each in normalised("reinhard", reference)]
    scan, shown, target = found
    assert np.abs(scan - target).max() > 5
    np.testing.assert_allclose(shown, target, atol=1.5)


def test_a_view_by_macenko_has_the_stains_of_the_reference(reference: Path) -> None:
    scan, shown, target = (stain.stains(each) for each in normalised("macenko", reference))
    before, after = (np.abs(each.colours - target.colours).max() for each in (scan, shown))
    assert after < before / 2
    np.testing.assert_allclose(shown.most, target.most, rtol=0.1)


def test_no_tiles_make_no_tiles() -> None:
    none = np.empty((0, 8, 8, 3), np.uint8)
    assert views.apply(look({"kind": "hed"}), none).shape == none.shape


def test_a_scan_of_glass_alone_cannot_be_normalised(reference: Path) -> None:
    glass = np.full((1, 64, 64, 3), 245, np.uint8)
    step = {"kind": "reinhard", "reference": str(reference)}
    with pytest.raises(DataError) as error:
        views.draw(view(step), seed=0, scan="a b", sample=glass)
    assert error.value.message == (
        "scan 'a b', view 'look', reinhard: 0 pixels of stained tissue, expected at least 200"
    )


def test_a_useless_reference_is_named(tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (50, 50), (240, 240, 240)).save(blank)
    for path, part in ((blank, "0 pixels of stained tissue"), (tmp_path / "gone.png", "")):
        with pytest.raises(DataError) as error:
            look({"kind": "macenko", "reference": str(path)})
        assert f"view 'look', macenko: {path}: {part}" in error.value.message


def test_wrong_steps_are_refused() -> None:
    wrong: list[dict[str, object]] = [
        {"kind": "blur", "sigma_px": (2, 1)},
        {"kind": "jpeg", "quality": (90, 50)},
        {"kind": "jpeg", "quality": (0, 50)},
        {"kind": "hed", "sigma": -0.1},
        {"kind": "grey"},
        {"kind": "reinhard"},
    ]
    for step in wrong:
        with pytest.raises(ValidationError):
            view(step)
    with pytest.raises(ValidationError):
        view()
    with pytest.raises(ValidationError):
        view({"kind": "jpeg"}, name="../a")
