import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.simulated_world import Encoder, draw_tissue, generator, traits
from training.simulation_config import Shift, Simulation


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), label=st.integers(0, 2), share=st.floats(0.01, 1))
def test_only_slides_of_a_class_above_zero_have_few_bearing_tiles(
    seed: int, label: int, share: float
) -> None:
    config = Simulation(seed=seed, num_classes=3, bearing_share=share)
    glass = draw_tissue(config, patient="p", slide="s", label=label)
    num_tiles, num_bearing = len(glass.bearing), int(glass.bearing.sum())
    assert config.min_tiles <= num_tiles <= config.max_tiles
    assert len(np.unique(glass.coords, axis=0)) == num_tiles
    if label == 0:
        assert num_bearing == 0
    else:
        assert 1 <= num_bearing <= max(1, 1.5 * share * num_tiles + 1)


def test_generators_of_other_names_or_seeds_differ_and_the_same_agree() -> None:
    def draw(seed: int, name: str) -> float:
        return float(generator(Simulation(seed=seed), name).random())

    assert draw(0, "a") == draw(0, "a")
    assert len({draw(0, "a"), draw(0, "b"), draw(1, "a")}) == 3


def _tiles(config: Simulation) -> np.ndarray:
    glass = [draw_tissue(config, patient=str(n), slide=str(n), label=n % 2) for n in range(30)]
    return np.concatenate([tissue.latent for tissue in glass])


@pytest.mark.parametrize("part", ["offset", "mixing", "nonlinear", "noise"])
def test_a_strength_is_the_size_of_its_part_of_the_shift(part: str) -> None:
    off = Shift(offset=0, mixing=0, nonlinear=0, noise=0)
    config = Simulation(shift=off.model_copy(update={part: 0.5}))
    encoder = Encoder(config, "fragile")
    clean = encoder.clean(_tiles(config))
    moves = np.stack(
        [
            encoder.shifted(clean, scanner=traits(config, name), rng=np.random.default_rng(number))
            - clean
            for number, name in enumerate(config.scanners)
        ]
    )
    assert np.sqrt(np.mean(np.square(clean))) == pytest.approx(1, rel=0.15)
    assert np.sqrt(np.mean(np.square(moves))) == pytest.approx(0.5, rel=0.2)
    assert (moves.std(axis=1).max() < 1e-12) == (part == "offset")


@pytest.mark.parametrize(("part", "linear"), [("mixing", True), ("nonlinear", False)])
def test_mixing_is_linear_and_the_warp_is_not(part: str, linear: bool) -> None:
    off = Shift(offset=0, mixing=0, nonlinear=0, noise=0)
    config = Simulation(shift=off.model_copy(update={part: 1.0}))
    encoder = Encoder(config, "fragile")
    clean = encoder.clean(_tiles(config))

    def move(tiles: np.ndarray) -> np.ndarray:
        drawn = np.random.default_rng(0)
        return encoder.shifted(tiles, scanner=traits(config, "A"), rng=drawn) - tiles

    assert np.allclose(move(3 * clean), 3 * move(clean)) == linear


def test_which_tiles_are_noisy_depends_on_the_scanner() -> None:
    config = Simulation(shift=Shift(offset=0, mixing=0, nonlinear=0, noise=1))
    encoder = Encoder(config, "fragile")
    clean = encoder.clean(_tiles(config))

    def size(name: str, seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed)
        move = encoder.shifted(clean, scanner=traits(config, name), rng=drawn) - clean
        return np.linalg.norm(move, axis=1)

    assert np.corrcoef(size("A", 0), size("A", 1))[0, 1] > 0.8
    assert np.corrcoef(size("A", 0), size("B", 1))[0, 1] < 0.8
