"""A trial and its identity, which depends on what can change its result and on nothing else.

`config_id` covers the resolved `TrialConfig`; `trial_id` covers that, the fingerprint of the data
it reads and `training.RESULTS_VERSION`. Paths, devices, profiles and packing are in neither.
"""

import hashlib
import json
from dataclasses import dataclass

from training import RESULTS_VERSION
from training.config import TrialConfig
from training.identity import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One fully resolved configuration together with the data that it reads."""

    id: str
    config: TrialConfig
    fingerprint: str
    """Of the data (`training.data.folds.fingerprint`); empty while the embeddings are missing."""


def make(config: TrialConfig, fingerprint: str) -> Trial:
    """Give a configuration and its data their name."""
    return Trial(id=trial_id(config, fingerprint), config=config, fingerprint=fingerprint)


def config_id(config: TrialConfig) -> str:
    """Hash the whole resolved configuration to 12 hexadecimal digits."""
    return hash_of(canonical(config))


def trial_id(config: TrialConfig, fingerprint: str) -> str:
    """Hash configuration, data and version of the training code to 12 hexadecimal digits."""
    return hash_of(json.dumps([config_id(config), fingerprint, RESULTS_VERSION]))


def hash_of(text: str) -> str:
    """Shorten text to 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
