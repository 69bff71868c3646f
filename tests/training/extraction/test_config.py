import pytest
from pydantic import ValidationError

from training.config_base import Config
from training.extraction.config import Tiling, Tissue


@pytest.mark.parametrize("model", [Tiling, Tissue])
def test_every_field_is_described_and_has_a_default(model: type[Config]) -> None:
    assert all(field.description for field in model.model_fields.values())
    assert model() == model.model_validate({})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"overlap_px": 224}, "overlap_px is 224; expected less than tile_px, 224"),
        ({"tile_px": 64, "overlap_px": 100}, "expected less than tile_px, 64"),
        ({"mpp": 0}, "greater than 0"),
        ({"max_tiles": 0}, "greater than or equal to 1"),
        ({"min_tissue": 1.2}, "less than or equal to 1"),
        ({"tile": 224}, "Extra inputs"),
    ],
)
def test_tilings_that_cannot_be_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Tiling.model_validate(settings)


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="min_colour is 40, max_colour 25"):
        Tissue(min_colour=40)
