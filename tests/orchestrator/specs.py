"""A small spec, and ways to change it."""

from pathlib import Path
from typing import Any

import yaml

from orchestrator import spec
from orchestrator.errors import SpecError
from orchestrator.spec_model import Spec

SMALL = """\
data: data
task: {kind: binary}
encoders: [uni, virchow2]
head: {kind: gated_attention}
folds: {kind: stratified, num_folds: 3}
seeds: 2
arms:
  erm: {views: routine}
  score:
    views: all
    losses: {score: {kind: score}}
    grid: {losses.score.weight: [0.1, 1]}
"""


def write(folder: Path, text: str | dict[str, Any], *, name: str = "small.yaml") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return path


def read(folder: Path, text: str | dict[str, Any]) -> Spec:
    return spec.read(write(folder, text))


def small(**changes: Any) -> dict[str, Any]:
    """Return the small spec as plain values with some top-level keys replaced."""
    found: dict[str, Any] = yaml.safe_load(SMALL) | changes
    return found


def problems(folder: Path, text: str | dict[str, Any]) -> list[str]:
    """Return the lines of the error, without the folder; empty for a sound spec."""
    try:
        read(folder, text)
    except SpecError as error:
        return error.message.replace(f"{folder}/", "").splitlines()
    return []
