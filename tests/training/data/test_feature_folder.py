from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tests.training.data import examples
from training.data import feature_folder
from training.data.feature_folder import Source


def scans(*rows: tuple[str, str] | tuple[str, str, str]) -> pd.DataFrame:
    """Rows of slide, scan and, where named, file."""
    return pd.DataFrame(
        [(*row, "") if len(row) == 2 else row for row in rows], columns=["slide", "scan", "file"]
    )


def surveyed(folder: Path, table: pd.DataFrame) -> tuple[dict[str, Source], list[str]]:
    problems: list[str] = []
    return feature_folder.survey(folder, table, problems), problems


def grid(num_tiles: int, offset: int = 0) -> np.ndarray:
    return np.stack([np.arange(num_tiles) * 512 + offset, np.zeros(num_tiles, int)], axis=1)


def test_files_are_found_by_scan_or_by_the_name_given(tmp_path: Path) -> None:
    examples.h5(tmp_path / "a.svs.h5", feats=examples.features())
    torch.save(torch.from_numpy(examples.features()), tmp_path / "b.pt")
    examples.h5(tmp_path / "deep" / "c.h5", feats=examples.features())
    examples.h5(tmp_path / "spare.h5", feats=examples.features())
    table = scans(("a", "a.svs"), ("b", "b"), ("c", "c", "deep/c.h5"))
    sources, problems = surveyed(tmp_path, table)
    assert problems == []
    assert [source.path.name for source in sources.values()] == ["a.svs.h5", "b.pt", "c.h5"]
    assert feature_folder.unused(tmp_path, sources) == ["spare.h5"]


def test_every_missing_ambiguous_and_shared_file_is_reported(tmp_path: Path) -> None:
    for name in ("both.h5", "scan-1.h5", "shared.h5", "odd.txt"):
        examples.h5(tmp_path / name, feats=examples.features())
    torch.save(torch.zeros(1), tmp_path / "both.pt")
    table = scans(
        *(("s", "both"), ("s", "scan_1"), ("s", "shared"), ("t", "again", "shared.h5")),
        *(("u", "odd", "odd.txt"), ("v", "gone", "gone.h5")),
    )
    _, problems = surveyed(tmp_path, table)
    assert [problem.removeprefix(f"{tmp_path}/") for problem in problems[:5]] == [
        "both.h5: also as 'both.pt'; say which in a column 'file'",
        "scan_1.h5 (or .pt): missing, for scan 'scan_1'; is it 'scan-1.h5'?",
        "shared.h5: is the file of scans 'shared' and 'again'",
        "odd.txt: is not .h5 or .pt",
        "gone.h5: missing, for scan 'gone'",
    ]


def test_a_folder_that_does_not_exist_is_one_problem(tmp_path: Path) -> None:
    _, problems = surveyed(tmp_path / "gone", scans(("a", "a"), ("b", "b")))
    assert problems == [f"{tmp_path / 'gone'}: is not a folder"]


def test_a_file_of_another_width_is_named(tmp_path: Path) -> None:
    for name, dim in (("a", 4), ("b", 6), ("c", 4)):
        examples.h5(tmp_path / f"{name}.h5", feats=examples.features(dim=dim))
    _, problems = surveyed(tmp_path, scans(("a", "a"), ("b", "b"), ("c", "c")))
    assert problems == [f"{tmp_path / 'b.h5'}: features are 6 wide, those of most files 4"]


def test_scans_with_equal_coordinates_share_tile_numbers_in_any_order(tmp_path: Path) -> None:
    features, order = examples.features(), np.array([3, 1, 4, 0, 2])
    examples.h5(tmp_path / "a.h5", feats=features, coords=grid(5))
    examples.h5(tmp_path / "b.h5", feats=features[order], coords=grid(5)[order])
    sources, _ = surveyed(tmp_path, scans(("s", "a"), ("s", "b")))
    one, two = (feature_folder.bag(sources[name]) for name in "ab")
    np.testing.assert_array_equal(two.tile, order)
    np.testing.assert_array_equal(two.embeddings[np.argsort(two.tile)], one.embeddings)


def test_scans_of_different_places_share_no_tile_number(tmp_path: Path) -> None:
    examples.h5(tmp_path / "a.h5", feats=examples.features(), coords=grid(5))
    examples.h5(tmp_path / "b.h5", feats=examples.features(), coords=grid(5, offset=1))
    examples.h5(tmp_path / "c.h5", feats=examples.features())
    sources, _ = surveyed(tmp_path, scans(("s", "a"), ("s", "b"), ("s", "c")))
    tiles = [feature_folder.bag(sources[name]).tile.tolist() for name in "abc"]
    assert tiles == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]


def test_tile_numbers_of_the_files_are_kept(tmp_path: Path) -> None:
    tile = np.array([9, 2, 7, 1, 0])
    for name in "ab":
        examples.h5(tmp_path / f"{name}.h5", feats=examples.features(), tile=tile)
    sources, problems = surveyed(tmp_path, scans(("s", "a"), ("s", "b")))
    assert problems == []
    assert feature_folder.bag(sources["b"]).tile.tolist() == tile.tolist()


def test_tile_numbers_in_some_files_of_a_slide_only_are_a_problem(tmp_path: Path) -> None:
    examples.h5(tmp_path / "a.h5", feats=examples.features(), tile=np.arange(5))
    examples.h5(tmp_path / "b.h5", feats=examples.features())
    _, problems = surveyed(tmp_path, scans(("s", "a"), ("s", "b")))
    assert problems == ["slide 's': some of its files have 'tile' numbers, some do not"]


def test_absent_coordinates_are_minus_one(tmp_path: Path) -> None:
    examples.h5(tmp_path / "a.h5", feats=examples.features())
    sources, _ = surveyed(tmp_path, scans(("s", "a")))
    bag = feature_folder.bag(sources["a"])
    assert bag.coords.tolist() == [[-1, -1]] * 5
    assert bag.embeddings.dtype == np.float16
