from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.training.data import examples
from training.data import feature_files
from training.errors import DataError

FEATURES = examples.features()


def message(path: Path) -> str:
    with pytest.raises(DataError) as error:
        feature_files.read(path)
    assert str(path) in error.value.message
    return error.value.message


@pytest.mark.parametrize("key", feature_files.KEYS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("leading", [False, True])
def test_h5_files_of_all_styles_are_read(
    tmp_path: Path, key: str, dtype: str, leading: bool
) -> None:
    coords = np.arange(10).reshape(5, 2)
    arrays = {key: FEATURES.astype(dtype), "coords": coords}
    if leading:
        arrays = {name: array[None] for name, array in arrays.items()}
    found = feature_files.read(examples.h5(tmp_path / "scan.h5", **arrays))
    np.testing.assert_array_equal(found.embeddings, FEATURES.astype(dtype))
    assert found.embeddings.dtype == dtype
    assert found.coords is not None
    assert found.coords.dtype == np.int32
    np.testing.assert_array_equal(found.coords, coords)
    assert found.tile is None


@pytest.mark.parametrize(
    "content",
    [
        torch.from_numpy(FEATURES),
        torch.from_numpy(FEATURES)[None],
        {"features": torch.from_numpy(FEATURES)},
        {"feats": torch.from_numpy(FEATURES), "scan": "a name", "mpp": 0.5},
        torch.from_numpy(FEATURES).requires_grad_(),
    ],
)
def test_pt_files_hold_a_tensor_or_a_mapping(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "scan.pt")
    found = feature_files.read(tmp_path / "scan.pt")
    np.testing.assert_array_equal(found.embeddings, FEATURES)
    assert found.coords is None


def test_a_bfloat16_tensor_and_its_companions_are_read(tmp_path: Path) -> None:
    features = torch.from_numpy(FEATURES).bfloat16()
    coords = torch.tensor([[1.0, 2.4]]).repeat(5, 1)
    torch.save(
        {"embeddings": features, "coords": coords, "tile": torch.arange(5)}, tmp_path / "a.pt"
    )
    found = feature_files.read(tmp_path / "a.pt")
    np.testing.assert_array_equal(found.embeddings, features.float().numpy())
    assert found.coords is not None
    assert found.coords.tolist() == [[1, 2]] * 5
    assert found.tile is not None
    assert found.tile.tolist() == [0, 1, 2, 3, 4]


def test_a_pt_file_with_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"features": Path("x")}, tmp_path / "scan.pt")
    assert "holds more than tensors" in message(tmp_path / "scan.pt")


@pytest.mark.parametrize("suffix", [".h5", ".pt"])
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(content)
    assert message(path)


def test_a_truncated_pt_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.pt"
    torch.save(torch.zeros(100, 10), path)
    path.write_bytes(path.read_bytes()[:500])
    assert "cannot be read" in message(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in message(tmp_path / "scan.h5")
    assert "cannot be read" in message(tmp_path / "scan.pt")


def test_a_wrong_key_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = examples.h5(tmp_path / "scan.h5", emb=FEATURES, coords=np.zeros((5, 2)))
    assert "has 'coords', 'emb', expected exactly one of 'features', 'feats'" in message(path)
    torch.save([1, 2], tmp_path / "scan.pt")
    assert "holds no arrays" in message(tmp_path / "scan.pt")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"feats": FEATURES[:0]}, "has no tiles"),
        ({"feats": FEATURES[0]}, "'feats' is float32 (4,), expected floating point [tiles, dim]"),
        ({"feats": FEATURES.astype(int)}, "'feats' is int64 (5, 4), expected floating point"),
        ({"feats": np.stack([FEATURES, FEATURES])}, "'feats' is float32 (2, 5, 4)"),
        ({"feats": FEATURES, "features": FEATURES}, "expected exactly one of"),
        ({"feats": FEATURES, "coords": np.zeros((4, 2))}, "'coords' is (4, 2), expected (5, 2)"),
        ({"feats": FEATURES, "coords": np.full((5, 2), 3e9)}, "'coords' are not numbers that fit"),
        ({"feats": FEATURES, "tile": np.zeros(5, int)}, "'tile' numbers are not distinct"),
        (
            {"feats": np.where(np.eye(5, 4) > 0, np.nan, FEATURES)},
            "4 tiles hold NaN or infinity, the first is row 0",
        ),
    ],
)
def test_arrays_that_are_no_bag_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], expected: str
) -> None:
    assert expected in message(examples.h5(tmp_path / "scan.h5", **arrays))


def test_all_problems_of_a_file_are_reported_together(tmp_path: Path) -> None:
    path = examples.h5(
        tmp_path / "scan.h5", feats=FEATURES * np.inf, tile=np.zeros(5, int), coords=np.zeros(5)
    )
    assert len(message(path).splitlines()) == 3


def test_float16_is_stored_unless_the_cast_loses_values() -> None:
    assert feature_files.stored_type(FEATURES) == "float16"
    assert feature_files.stored_type(FEATURES.astype(np.float16)) == "float16"
    assert feature_files.stored_type(FEATURES.astype(np.float64)) == "float16"
    assert feature_files.stored_type(np.zeros((2, 2), np.float32)) == "float16"
    assert feature_files.stored_type(FEATURES * 1e5) == "float32"
    assert feature_files.stored_type(FEATURES * 1e-8) == "float32"
    spike = FEATURES.copy()
    spike[2, 1] = 65_520
    assert feature_files.stored_type(spike) == "float32"
    spike[2, 1] = 65_504
    assert feature_files.stored_type(spike) == "float16"


@given(hnp.arrays(np.float32, (6, 3), elements=st.floats(-100, 100, width=32)))
def test_a_stored_bag_is_never_far_from_the_file(values: np.ndarray) -> None:
    stored = values.astype(feature_files.stored_type(values))
    scale = np.sqrt(np.square(values, dtype=np.float64).mean())
    error = np.sqrt(np.square(stored.astype(np.float64) - values).mean())
    assert error <= feature_files.CAST_ERROR * scale


@given(st.permutations(range(12)))
def test_the_rank_of_a_tile_does_not_depend_on_the_order_of_the_file(order: list[int]) -> None:
    coords = np.array([(x, y) for x in range(3) for y in range(4)], np.int32) * 512
    mixed = coords[order]
    assert feature_files.place(mixed) == feature_files.place(coords) != ""
    np.testing.assert_array_equal(feature_files.rank(mixed), order)


def test_repeated_or_absent_coordinates_name_no_place() -> None:
    assert feature_files.place(None) == ""
    assert feature_files.place(np.zeros((2, 2), np.int32)) == ""


def test_coordinates_in_micrometres_tell_places_apart_and_are_no_pixels(tmp_path: Path) -> None:
    coords = np.array([[0.0, 112.5], [112.5, 0.0]])
    by_value = examples.h5(tmp_path / "a.h5", features=examples.features(2), coords=coords)
    whole = examples.h5(tmp_path / "b.h5", features=examples.features(2), coords=coords * 2)
    by_unit = examples.h5(tmp_path / "c.h5", features=examples.features(2), coords=coords * 2)
    with h5py.File(by_unit, "r+") as file:
        file.attrs["unit"] = "um"
    assert [feature_files.read(path).in_pixels for path in (by_value, whole, by_unit)] == [
        False, True, False,
    ]  # fmt: skip
    assert feature_files.place(feature_files.read(by_unit).coords)
