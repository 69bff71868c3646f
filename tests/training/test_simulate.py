import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training import simulate, simulated_world
from training.data import bags, index
from training.metrics.association import chance
from training.simulate import Slide
from training.simulated_world import Encoder
from training.simulation_config import Shift, SimulatedEncoder, Simulation

NO_SHIFT = Shift(offset=0, mixing=0, nonlinear=0, noise=0, missing_tiles=0)
SMALL = Simulation(
    dev_patients=10,
    test_patients=6,
    min_tiles=5,
    max_tiles=12,
    paired_share=0.5,
    encoders={"one": SimulatedEncoder(dim=8), "two": SimulatedEncoder(dim=6, scanner_effect=0.2)},
)


def _change(config: Simulation, **fields: object) -> Simulation:
    return Simulation.model_validate(config.model_dump() | fields)


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _cramers_v(slides: Iterable[Slide]) -> float:
    table = pd.crosstab(*zip(*[(s.label, s.routine) for s in slides], strict=True)).to_numpy()
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    chi2 = float((np.square(table - expected) / expected).sum())
    return float(np.sqrt(chi2 / table.sum() / (min(table.shape) - 1)))


def _cohort(config: Simulation, name: str) -> list[Slide]:
    return [slide for slide in simulate.slides(config) if slide.cohort == name]


def test_the_configuration_fixes_the_dataset_to_the_byte(tmp_path: Path) -> None:
    for name in ("first", "second"):
        simulate.write(SMALL, tmp_path / name)
    simulate.write(_change(SMALL, seed=1), tmp_path / "other")
    assert _files(tmp_path / "first") == _files(tmp_path / "second")
    shard = next(name for name in _files(tmp_path / "first") if name.endswith(".h5"))
    assert _files(tmp_path / "first")[shard] != _files(tmp_path / "other")[shard]


def test_the_dataset_that_is_written_holds_the_bags_and_labels_of_the_model(tmp_path: Path) -> None:
    simulate.write(SMALL, tmp_path)
    dataset = index.read(tmp_path)
    slides = {slide.name: slide for slide in simulate.slides(SMALL)}
    encoders = {name: Encoder(SMALL, name) for name in SMALL.encoders}
    reader = bags.BagReader(tmp_path)
    assert len(dataset.index) == 2 * sum(len(slide.scanners) for slide in slides.values())
    for row in dataset.index.itertuples():
        bag = simulate.bag(encoders[row.encoder], slides[row.slide], row.scanner)
        np.testing.assert_array_equal(reader.embeddings(row), bag.embeddings)
        np.testing.assert_array_equal(reader.tiles(row), bag.tile)
        assert row.routine == (row.scanner == slides[row.slide].routine)
    labels = {slide.patient: str(slide.label) for slide in slides.values()}
    assert dataset.cases.set_index("patient")["label"].to_dict() == labels


def test_with_all_strengths_zero_the_scans_of_a_slide_are_equal() -> None:
    config = _change(SMALL, shift=NO_SHIFT)
    encoder = Encoder(config, "one")
    for slide in _cohort(config, "test"):
        clean = simulate.bag(encoder, slide, None)
        for scanner in slide.scanners:
            seen = simulate.bag(encoder, slide, scanner)
            assert seen.embeddings.tobytes() == clean.embeddings.tobytes()
            np.testing.assert_array_equal(seen.tile, clean.tile)


def test_an_encoder_without_scanner_effect_sees_no_scanner() -> None:
    config = _change(SMALL, encoders={"one": SimulatedEncoder(scanner_effect=0)})
    encoder, slide = Encoder(config, "one"), _cohort(config, "test")[0]
    clean = simulate.bag(encoder, slide, None)
    seen = simulate.bag(encoder, slide, "E")
    np.testing.assert_array_equal(seen.embeddings, clean.embeddings[seen.tile])


def test_the_common_tiles_of_two_scans_lie_at_the_same_place() -> None:
    encoder, slide = Encoder(SMALL, "one"), _cohort(SMALL, "test")[0]
    first, second = (simulate.bag(encoder, slide, scanner) for scanner in "AE")
    _, here, there = np.intersect1d(first.tile, second.tile, return_indices=True)
    assert 0 < len(here) <= len(first.tile)
    np.testing.assert_array_equal(first.coords[here], second.coords[there])


def test_scans_miss_the_share_of_tiles_that_was_asked() -> None:
    config = _change(SMALL, min_tiles=100, max_tiles=100, shift=Shift(missing_tiles=0.25))
    slide = _cohort(config, "test")[0]
    tiles = [simulate.bag(Encoder(config, "one"), slide, scanner).tile for scanner in "AB"]
    assert [len(tile) for tile in tiles] == [75, 75]
    assert set(tiles[0]) != set(tiles[1])


@pytest.mark.parametrize("confounding", [0.0, 0.8, 1.0])
def test_the_routine_scanner_depends_on_class_as_asked_in_dev_and_never_in_test(
    confounding: float,
) -> None:
    config = Simulation(dev_patients=3000, test_patients=3000, confounding=confounding)
    assert _cramers_v(_cohort(config, "dev")) == pytest.approx(confounding, abs=0.06)
    assert _cramers_v(_cohort(config, "test")) < 0.06


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    confounding=st.floats(0, 1),
    num_patients=st.integers(10, 200),
)
def test_shares_are_kept_for_any_seed(
    seed: int, share: float, confounding: float, num_patients: int
) -> None:
    config = Simulation(
        seed=seed, dev_patients=num_patients, paired_share=share, confounding=confounding
    )
    dev = _cohort(config, "dev")
    for label in (0, 1):
        paired = [slide.paired for slide in dev if slide.label == label]
        assert abs(sum(paired) - share * len(paired)) < 6  # the most for 300 slides: 5.3
    labels = pd.Series({slide.patient: slide.label for slide in dev})
    assert abs(labels.sum() - num_patients / 2) <= 2
    for slide in dev:
        assert slide.scanners == (config.scanners if slide.paired else (slide.routine,))


def test_pairing_does_not_depend_on_class_or_on_confounding() -> None:
    dev = _cohort(Simulation(dev_patients=4000, paired_share=0.2), "dev")
    table = pd.DataFrame(
        [(s.paired, s.label, (s.label - "ABCD".index(s.routine)) % 2) for s in dev],
        columns=["paired", "label", "other"],
    )
    shares = table.groupby(["label", "other"])["paired"].mean()
    np.testing.assert_allclose(shares, 0.2, atol=0.04)


def test_sites_are_independent_of_classes_over_cohorts() -> None:
    chances = []
    for seed in range(40):
        world = Simulation(seed=seed, dev_patients=40, test_patients=0, second_slide_share=0)
        made = pd.DataFrame([(s.label, s.site) for s in simulate.slides(world)], columns=list("cs"))
        chances.append(chance(pd.crosstab(made["c"], made["s"]).to_numpy()))
    # Under independence they are uniform, but for what counts are whole numbers.
    assert stats.kstest(chances, "uniform").pvalue > 0.05
    assert min(chances) > 0.05 / 40


def test_slides_paired_at_a_small_share_are_paired_at_a_larger_one() -> None:
    paired = [
        {s.name for s in simulate.slides(Simulation(paired_share=share)) if s.paired}
        for share in (0.05, 0.2, 1.0)
    ]
    assert paired[0] < paired[1] < paired[2]


def test_an_unseen_scanner_appears_on_every_test_slide_and_never_in_dev() -> None:
    for slide in simulate.slides(Simulation()):
        assert slide.scanners == ("A", "B", "C", "D", "E") or slide.cohort == "dev"
        assert "E" not in slide.scanners or slide.cohort == "test"
        assert slide.routine in ("A", "B", "C", "D")


def test_a_slide_does_not_depend_on_how_many_there_are() -> None:
    larger = _change(SMALL, dev_patients=25, test_patients=9, unseen_scanners=("E", "F"))
    here, there = _cohort(SMALL, "dev"), _cohort(larger, "dev")
    assert here == there[: len(here)]
    for slide in here:
        first = simulate.bag(Encoder(SMALL, "one"), slide, slide.routine)
        second = simulate.bag(Encoder(larger, "one"), slide, slide.routine)
        assert first.embeddings.tobytes() == second.embeddings.tobytes()


def test_some_patients_have_two_slides_of_the_same_class() -> None:
    slides = pd.DataFrame([(s.patient, s.label) for s in simulate.slides(Simulation())])
    sizes = slides.groupby(0)[1].agg(["size", "nunique"])
    assert set(sizes["size"]) == {1, 2}
    assert set(sizes["nunique"]) == {1}


def test_the_truth_names_bearing_tiles_and_the_subspace_of_the_offsets() -> None:
    truth = simulate.truth(SMALL)
    labels = truth.slides.set_index("slide")["label"]
    assert all(bearing.any() == (labels[slide] > 0) for slide, bearing in truth.bearing.items())
    for (encoder, scanner), offset in truth.offsets.items():
        basis = truth.subspace[encoder]
        np.testing.assert_allclose(basis.T @ basis, np.eye(SMALL.trait_dim), atol=1e-12)
        np.testing.assert_allclose(basis @ (basis.T @ offset), offset, atol=1e-12)
        effect = SMALL.encoders[encoder].scanner_effect * SMALL.shift.offset
        assert np.sqrt(np.mean(offset**2)) == pytest.approx(effect)
        assert np.linalg.norm(truth.traits[scanner]) == pytest.approx(np.sqrt(SMALL.trait_dim))


def test_the_command_line_writes_the_dataset_of_its_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate.main([str(tmp_path / "a"), "--json", json.dumps(SMALL.model_dump(mode="json"))])
    simulate.write(SMALL, tmp_path / "b")
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert capsys.readouterr().out == f"{tmp_path / 'a'}\n"


def test_the_command_line_refuses_a_bad_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        simulate.main([str(tmp_path / "a"), "--json", '{"ofset": 1}'])
    assert "ofset" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_views_are_the_scans_tiles_in_a_style_that_no_scanner_has(tmp_path: Path) -> None:
    config = _change(SMALL, augmented_views=2)
    simulate.write(config, tmp_path)
    table = index.read(tmp_path).index
    reader = bags.BagReader(tmp_path)
    made = table[table["source_scan"] != ""]
    scans = table[table["source_scan"] == ""]
    dev = scans[scans["cohort"] == "dev"]
    assert sorted(made["source_scan"]) == sorted([*dev["view"], *dev["view"]])
    assert set(made["cohort"]) == {"dev"} and not made["routine"].any()
    encoders = {name: Encoder(config, name) for name in config.encoders}
    slides = {slide.name: slide for slide in simulate.slides(config)}
    rows = {(row.encoder, row.view): row for row in scans.itertuples()}
    offsets = []
    for view in made.itertuples():
        scan, encoder = rows[view.encoder, view.source_scan], encoders[view.encoder]
        np.testing.assert_array_equal(reader.tiles(view), reader.tiles(scan))
        style = simulated_world.style(config, view.view)
        assert np.square(style).sum() == pytest.approx(config.trait_dim)
        clean = simulate.bag(encoder, slides[view.slide], None).embeddings[reader.tiles(scan)]
        clean = clean.astype(np.float64)
        mixed = clean @ np.tensordot(style, encoder.mixing, axes=1).T
        wanted = clean + encoder.offset(style) + encoder.effect * config.shift.mixing * mixed
        np.testing.assert_allclose(reader.embeddings(view), wanted, atol=0.02)
        offsets.append(tuple(np.round(style, 6)))
    assert len(set(offsets)) == made["view"].nunique()


def test_views_change_no_byte_of_the_scans(tmp_path: Path) -> None:
    found = []
    for number, strength in ((0, 1.0), (1, 1.0), (1, 0.0)):
        config = _change(SMALL, augmented_views=number, augmented_strength=strength)
        root = tmp_path / f"{number} {strength}"
        simulate.write(config, root)
        table = index.read(root).index
        found.append(table.set_index(["encoder", "view"])["checksum"])
    plain, one, none = found
    assert one[plain.index].equals(plain)
    changed = one != none[one.index]
    assert changed[~one.index.isin(plain.index)].all() and not changed[plain.index].any()


def test_a_view_without_strength_is_the_tissue_itself() -> None:
    config = _change(SMALL, augmented_views=1, augmented_strength=0.0)
    encoder, slide = Encoder(config, "one"), _cohort(config, "dev")[0]
    clean = simulate.bag(encoder, slide, None)
    view = simulate.bag(encoder, slide, slide.routine, view="any")
    np.testing.assert_array_equal(view.embeddings, clean.embeddings[view.tile])
