"""Configurations made of parts are those that are validated whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator import spec_assembly
from training.config import TrialConfig

BASE = {
    "encoder": "uni", "task": {"kind": "binary"}, "head": {"kind": "attention"},
    "folds": {"kind": "stratified", "num_folds": 3}, "fold": 0, "seed": 0,
}  # fmt: skip
FIELDS = {
    "views": ["routine", "all", "none"],
    "optim": [{"lr": 0.1}, {"lr": 1}, {"lr": 1.0}, {"lr": True}, {"epochs": 3, "warmup_epochs": 3}],
    "losses": [[], [{"kind": "score"}], [{"kind": "score", "weight": -1}]],
    "unseen_scanners": [["A"], ["A", "A"], []],
    "fold": [0, 2, 3],
    "precision": ["float32", "half"],
}


def whole(values: dict) -> TrialConfig | list:
    try:
        return TrialConfig.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)


@given(st.lists(st.fixed_dictionaries({}, optional={
    name: st.sampled_from(options) for name, options in FIELDS.items()
}), min_size=1, max_size=6))  # fmt: skip
def test_every_cell_is_what_it_is_alone(changes: list[dict]):
    for changed in changes:
        values = BASE | changed
        try:
            found: TrialConfig | list = spec_assembly.config(values)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
        assert found == whole(values)


def test_equal_parts_are_one_object_and_equal_cells_too():
    first = spec_assembly.config(BASE | {"optim": {"lr": 0.25}, "fold": 1})
    second = spec_assembly.config(BASE | {"optim": {"lr": 0.25}, "fold": 2})
    assert first.optim is second.optim and first.folds is second.folds
    assert spec_assembly.config(BASE | {"optim": {"lr": 0.25}, "fold": 1}) is first


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spec_assembly, "PARTS_MAX", 3)
    monkeypatch.setattr(spec_assembly, "CELLS_MAX", 2)
    made = [spec_assembly.config(BASE | {"seed": seed}) for seed in range(9)]
    assert [config.seed for config in made] == list(range(9))
    assert len(spec_assembly._cells) <= 2 and len(spec_assembly._parts) <= 3 + len(BASE)
