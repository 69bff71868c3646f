"""Configurations of cells, put together of parts that were validated before.

The cells of a grid share most of their settings, and validating a whole configuration takes ten
times as long as looking up its parts. Each field is validated by pydantic once; what is between
fields is checked for every cell. Equal parts are one object, which makes identities cheap, too.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from training.config import TrialConfig

PARTS_MAX, CELLS_MAX = 2**16, 2**18
"""What is remembered at most; beyond that it is forgotten, all at once."""

_parts: dict[tuple[str, str], Any] = {}
_cells: dict[bytes, TrialConfig] = {}


def config(values: Mapping[str, Any]) -> TrialConfig:
    """Validate plain values, as JSON would have them, as a trial's configuration.

    Raises:
        ValidationError: The same as of the whole configuration.
    """
    name = hashlib.sha256(repr(values).encode()).digest()  # 1, 1.0 and True have texts of their own
    if name not in _cells:
        if len(_cells) >= CELLS_MAX:
            _cells.clear()
        _cells[name] = _assemble(values)
    return _cells[name]


def _assemble(values: Mapping[str, Any]) -> TrialConfig:
    keys = [(name, repr(value)) for name, value in values.items()]
    known = {key[0]: _parts[key] for key in keys if key in _parts}
    if len(known) == len(keys):
        try:
            return TrialConfig.model_validate(known)
        except ValidationError:
            pass  # said better of the whole
    found = TrialConfig.model_validate_json(json.dumps(values), strict=True)
    if len(_parts) >= PARTS_MAX:
        _parts.clear()
    for key in keys:
        _parts.setdefault(key, getattr(found, key[0]))
    return found.model_copy(update=known)
