import subprocess
import sys

import pytest
from pydantic import ValidationError

from training.simulation_config import Simulation


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"scanners": ["A", "B", "A"]}, "named twice: A"),
        ({"scanners": ["A", "B"], "unseen_scanners": ["B"]}, "named twice: B"),
        ({"scanners": ["A"], "paired_share": 0}, "one seen scanner per class"),
        ({"scanners": ["A"], "confounding": 0}, "at least two seen scanners"),
        ({"min_tiles": 9, "max_tiles": 8}, "min_tiles 9 is above max_tiles 8"),
        ({"encoders": {}}, "at least 1 item"),
        ({"encoders": {"one": {"dim": 2}}}, "dim 2 is below trait_dim"),
        ({"scanners": ["../A", "B"]}, "pattern"),
        ({"num_classes": 4, "dev_patients": 3}, "dev_patients is below num_classes"),
        ({"confounding": 1.2}, "less than or equal to 1"),
        ({"shift": {"offset": -1}}, "greater than or equal to 0"),
        ({"shift": {"ofset": 1}}, "Extra inputs"),
    ],
)
def test_a_bad_configuration_is_refused(fields: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Simulation.model_validate(fields)


def test_all_problems_between_fields_are_told_at_once() -> None:
    with pytest.raises(ValidationError, match=r"named twice: A; min_tiles 9 is above"):
        Simulation.model_validate({"scanners": ["A", "A"], "min_tiles": 9, "max_tiles": 8})


def test_the_configuration_loads_without_numpy_pandas_or_torch() -> None:
    code = (
        "import sys, training.simulation_config as _;"
        "assert not {'numpy', 'pandas', 'torch', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
