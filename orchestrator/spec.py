"""Read a sweep spec, report every problem with its line, and expand it to trials.

`python -m orchestrator.spec` prints the JSON Schema of the language (`sweeps/schema.json`). Neither
torch nor a table library is imported here: the command line reads specs on login nodes.
"""

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator import spec_axes, spec_check, spec_expand, spec_lines, trial
from orchestrator.errors import SpecError
from orchestrator.halving import Bracket
from orchestrator.spec_analysis import Analysis
from orchestrator.spec_expand import Searched
from orchestrator.spec_model import Spec
from orchestrator.spec_search import AshaSearch, Scalar, Setting
from orchestrator.spec_select import Select
from training.config import Config, TrialConfig, num_folds
from training.simulation_config import Simulation

Part = TypeVar("Part", bound=Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fold and seed of a cell."""

    cell: int
    """Number of the cell in the table, from 0."""
    encoder: str
    arm: str
    axes: dict[str, Scalar]
    """Dotted key to value for every axis of the spec; None where a cell has no such setting."""
    fold: int
    seed: int
    config: TrialConfig
    priority: int
    """Of the encoder and the arm together; packs of a higher one go first."""
    searched: Searched | None = None
    """Where the cell comes from; None where no search made it."""

    @property
    def search(self) -> str:
        """The kind of search that made the cell; empty where none did."""
        return str(self.searched.search.kind) if self.searched else ""

    @property
    def bracket(self) -> str:
        """Text of the bracket in which the trial may be retired; empty where it may not."""
        if not self.searched or not isinstance(self.searched.search, AshaSearch):
            return ""
        name = trial.hash_of(f"{self.searched.group} {self.fold} {self.seed}")
        return str(Bracket(name, self.searched.search.grace, self.searched.search.reduction))


def read(path: Path) -> Spec:
    """Read and check a spec.

    Raises:
        SpecError: lists every problem as `file:line: key: what was found; what was expected`.
    """
    spec, warnings = spec_check.check(spec_lines.load(path), path)
    read_spec: Spec = spec.model_copy(update={"warnings": warnings})
    return read_spec


def expand(
    spec: Spec, suggested: Mapping[str, Sequence[Setting]] = MappingProxyType({})
) -> list[Row]:
    """List the trials of a spec by cell (encoder, arm, axes), then fold, then seed.

    Equal specs and suggestions give equal lists. Two cells may resolve to the same configuration;
    they share their trials (`orchestrator.plan`).

    Args:
        spec: the spec.
        suggested: by group of a search, the settings that followed from results.
    """
    rows: list[Row] = []
    keys, seeds = spec_axes.axis_keys(spec), spec.seed_numbers
    cells = (
        (draft, cell)
        for draft, cell, excluded in spec_expand.outcomes(spec, suggested)
        if not excluded and isinstance(cell, spec_expand.Cell)
    )
    for number, (draft, cell) in enumerate(cells):
        axes = {key: _scalar(cell.at(key)) for key in keys}
        priority = spec.priority(draft.encoder, draft.arm)
        for fold in range(num_folds(cell.config.folds)):
            for seed in seeds:
                row = Row(
                    cell=number,
                    encoder=draft.encoder,
                    arm=draft.arm,
                    axes=axes,
                    fold=fold,
                    seed=seed,
                    config=cell.config.model_copy(update={"fold": fold, "seed": seed}),
                    priority=priority,
                    searched=draft.searched,
                )
                rows.append(row)
    return rows


def selection(path: Path) -> Select | None:
    """Read the rule of selection of a spec that was checked before; None without one.

    Raises:
        SpecError: The file or the rule cannot be read.
    """
    return _part(path, "select", Select)


def analysis(path: Path) -> Analysis | None:
    """Read the primary analysis of a spec that was checked before; None without one.

    Raises:
        SpecError: The file or the analysis cannot be read.
    """
    return _part(path, "analysis", Analysis)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the spec language, which editors can use."""
    return copy.deepcopy(spec_check.schema())


def simulation_id(simulation: Simulation) -> str:
    """Name a simulated cohort by a hash of its configuration, added fields at defaults left out."""
    added = {
        name
        for name, field in Simulation.model_fields.items()
        if field.json_schema_extra == {"added": True}
        and getattr(simulation, name) == field.get_default()
    }
    return trial.hash_of(simulation.model_dump_json(exclude=added))


def _part(path: Path, key: str, model: type[Part]) -> Part | None:
    found = spec_lines.load(path).tree.get(key) if path.is_file() else None
    if found is None:
        return None
    try:
        return model.model_validate(found, strict=True)
    except ValidationError as error:
        raise SpecError(f"{path}: {key}: {error.errors()[0]['msg']}") from error


def _scalar(value: Any) -> Scalar:
    return json.dumps(value) if isinstance(value, list) else value


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
