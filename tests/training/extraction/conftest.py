"""Real slides and tiles, where `SWEEP_TEST_DATA` has them."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    found = Path(os.environ.get("SWEEP_TEST_DATA", ROOT / ".." / "shared" / "data"))
    if not (found / "slides").is_dir():
        pytest.skip(f"no real slides at {found}; set SWEEP_TEST_DATA")
    return found.resolve()


@pytest.fixture(scope="session")
def cmu(real_data: Path) -> Path:
    """A region of a real slide: 2220 × 2967 px at 0.499 µm/px."""
    return real_data / "slides" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def he_tiles(real_data: Path) -> Path:
    return real_data / "he-tiles"
