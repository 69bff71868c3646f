import subprocess
import sys

import pytest
from pydantic import Field

from orchestrator import trial
from training import config as configuration
from training.config import Config, MixStyle, NoInputMethod, Optim, TrialConfig
from training.config_inputs import Regularisation
from training.config_task import Survival
from training.identity import canonical

SMALL = TrialConfig.model_validate(
    {
        "encoder": "uni",
        "task": {},
        "head": {"kind": "gated_attention"},
        "folds": {"kind": "stratified"},
        "fold": 0,
        "seed": 0,
    }
)
FULL = TrialConfig.model_validate(
    {
        "encoder": "virchow2",
        "task": {"kind": "multiclass", "label": "grade", "classes": ["low", "mid", "high"]},
        "head": {"kind": "attention", "embed_dims": [512, 256], "dropout": 0.1},
        "losses": [
            {"kind": "infonce", "weight": 0.01, "level": "tile"},
            {"kind": "score", "weight": 10, "form": "huber"},
        ],
        "views": "all",
        "unseen_scanners": ["E"],
        "sampling": {"tiles_per_bag": 256},
        "optim": {"lr": 1e-3, "clip": 1, "epochs": 3},
        "stopping": {"validation_share": 0, "epoch": "last", "threshold": "half"},
        "folds": {"kind": "given", "num_folds": 10, "repetitions": 5},
        "fold": 49,
        "seed": 7,
    }
)
MEAN = SMALL.model_copy(update={"head": configuration.MeanHead(kind="mean", embed_dims=(32,))})

# Identities are promises: another value here retrains the work of every user. Whoever changes one
# on purpose says so in CHANGELOG.md.
FROZEN = {
    "small": (SMALL, "72e940101a62", "dcf5c8a04f6a"),
    "full": (FULL, "94b79b3fdf9c", "b743edb67c11"),
    "mean": (MEAN, "6ead8cacdde7", "b217a0c11b13"),
}
# Fields that carry the mark `added`, with their introduction default. A default that changes takes
# its mark away: otherwise old results would pass for results of the new default.
ADDED: dict[str, object] = {
    "Stopping.margin": 0.01,
    "Task.survival": Survival(),
    "TrialConfig.external_cohorts": (),
    "TrialConfig.input": NoInputMethod(kind="none"),
    "TrialConfig.mixstyle": MixStyle(),
    "TrialConfig.pairs": "scans",
    "TrialConfig.regularisation": Regularisation(),
    "TrialConfig.test_time": "each_scan",
}


@pytest.mark.parametrize("name", FROZEN)
def test_ids_of_fixed_configurations_are_frozen(name):
    config, config_id, trial_id = FROZEN[name]
    assert trial.config_id(config) == config_id
    assert trial.trial_id(config, "0123456789abcdef") == trial_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"fold": 1},
        {"draw_seed": 1},
        {"encoder": "uni2_h"},
        {"optim": Optim(lr=1e-3)},
        {"shuffle_labels": True},
        {"views": "all"},
        {"precision": "float64"},
        {"mixstyle": MixStyle(probability=0.5)},
    ],
)
def test_what_changes_a_result_changes_the_id(change):
    assert trial.config_id(SMALL.model_copy(update=change)) != trial.config_id(SMALL)


def test_the_data_and_the_version_of_the_code_are_part_of_a_trial(monkeypatch):
    first = trial.trial_id(SMALL, "a")
    assert trial.trial_id(SMALL, "b") != first
    monkeypatch.setattr(trial, "RESULTS_VERSION", trial.RESULTS_VERSION + 1)
    assert trial.trial_id(SMALL, "a") != first


def test_nothing_about_where_a_trial_runs_is_in_its_configuration():
    text = canonical(FULL)
    for word in ("path", "device", "profile", "pack", "lane", "partition", "log", "worker"):
        assert word not in text


def test_a_copy_that_went_through_json_has_the_same_id():
    for config in (SMALL, FULL, MEAN):
        again = TrialConfig.model_validate_json(config.model_dump_json())
        assert trial.config_id(again) == trial.config_id(config)


def test_whole_numbers_hash_alike_as_int_and_float():
    whole = SMALL.optim.model_copy(update={"lr": 1})
    assert canonical(whole) == canonical(Optim(lr=1.0))


class Later(Optim):
    """Optim of a later release."""

    nesterov: bool = Field(False, json_schema_extra={"added": True})
    betas: tuple[float, float] = Field((0.9, 0.999), json_schema_extra={"added": True})


class Careless(Optim):
    """A later release that forgot the mark."""

    nesterov: bool = Field(False)


def test_an_added_field_at_its_default_leaves_the_id_as_it_was():
    with_field = SMALL.model_copy(update={"optim": Later()})
    assert trial.config_id(with_field) == trial.config_id(SMALL)
    for changed in (Later(nesterov=True), Later(betas=(0.8, 0.999))):
        config = SMALL.model_copy(update={"optim": changed})
        assert trial.config_id(config) != trial.config_id(SMALL)


def test_an_added_field_without_the_mark_changes_ids():
    careless = SMALL.model_copy(update={"optim": Careless()})
    assert trial.config_id(careless) != trial.config_id(SMALL)


def test_the_fields_marked_as_added_are_the_known_ones():
    models = [m for m in vars(configuration).values() if isinstance(m, type)]
    found = {
        f"{model.__name__}.{name}": info.get_default()
        for model in models
        if issubclass(model, Config)
        for name, info in model.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("added")
    }
    assert found == ADDED


def test_a_made_trial_carries_its_id():
    made = trial.make(SMALL, "f")
    assert made.id == trial.trial_id(SMALL, "f")
    assert (made.config, made.fingerprint) == (SMALL, "f")


def test_specs_trials_and_plans_are_read_without_heavy_packages():
    code = (
        "import sys, orchestrator.spec, orchestrator.trial, orchestrator.plan\n"
        "heavy = {'torch', 'ray', 'pandas', 'pyarrow', 'submitit', 'numpy', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
