"""Reads the YAML of `sweep embed --config`; every problem is told with its key."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from training.errors import DataError
from training.extraction.config_embed import EmbedConfig


def read(path: Path) -> EmbedConfig:
    """Read a configuration.

    Raises:
        DataError: It cannot be read, or is wrong; every problem at once.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    try:
        return EmbedConfig.model_validate(content or {})
    except ValidationError as error:
        lines = [f"{path}: {_problem(item)}" for item in error.errors()]
        known = ", ".join(EmbedConfig.model_fields)
        raise DataError("\n".join(lines), hint=f"keys: {known}") from error


def _problem(item: Any) -> str:
    place = [str(part) for part in item["loc"]]
    key = ".".join(place) or "configuration"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _keys(EmbedConfig), 1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    found = "" if item["type"] == "value_error" else f"; found {item['input']!r}"
    return f"{key}: {item['msg'].removeprefix('Value error, ')}{found}"


def _keys(model: type[BaseModel]) -> list[str]:
    """List the keys of a model and of the models inside."""
    return [name for inner in (model, *_models(model)) for name in inner.model_fields]


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    kinds = [field.annotation for field in model.model_fields.values()]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
