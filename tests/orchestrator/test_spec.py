import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml

from orchestrator import spec, spec_axes, spec_lines
from orchestrator.spec_model import Arm, Language
from orchestrator.spec_search import Search
from tests.orchestrator.specs import SMALL, read, small, write
from tests.training.losses.kinds import GIVEN, kinds
from training.config import Loss, TrialConfig
from training.simulation_config import Simulation

SWEEPS = Path(__file__).parents[2] / "sweeps"
SPECS = sorted(SWEEPS.glob("*.yaml"))


def ids(path):
    return path.stem


def test_a_spec_says_what_commands_need(tmp_path):
    found = read(tmp_path, SMALL)
    assert found.name == "small"
    assert found.data_path == tmp_path / "data"
    assert found.simulation is None
    assert found.encoder_names == ("uni", "virchow2")
    assert found.seed_numbers == (0, 1)
    assert found.task.label == "label"
    assert found.cluster is None
    assert found.artefacts.weights == "none"
    assert found.warnings == ()


def test_data_may_be_given_relative_to_the_spec_absolutely_and_by_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("COHORT", "/cohorts")
    (tmp_path / "specs").mkdir()
    for text, expected in {
        "../data": tmp_path / "data",
        "/data/x": Path("/data/x"),
        "$COHORT/a": Path("/cohorts/a"),
        "${COHORT}/b": Path("/cohorts/b"),
    }.items():
        assert read(tmp_path / "specs", small(data=text)).data_path == expected


def test_data_may_be_simulated(tmp_path):
    found = read(tmp_path, small(data={"simulate": {"seed": 3, "shift": {"offset": 1}}}))
    assert found.data_path is None
    assert found.simulation == Simulation.model_validate({"seed": 3, "shift": {"offset": 1}})


def test_a_simulated_cohort_is_named_by_its_configuration():
    assert spec.simulation_id(Simulation()) == spec.simulation_id(Simulation(seed=0))
    assert spec.simulation_id(Simulation()) != spec.simulation_id(Simulation(seed=1))
    assert spec.simulation_id(Simulation()) == "3c1f21f3e1f4"  # before outcomes were simulated
    survival = Simulation.model_validate({"survival": {}})
    assert spec.simulation_id(Simulation()) != spec.simulation_id(survival)


def test_seeds_may_be_listed_and_encoders_may_have_settings(tmp_path):
    found = read(tmp_path, small(seeds=[7, 3], encoders={"b": {"optim": {"lr": 1}}, "a": None}))
    assert found.seed_numbers == (7, 3)
    assert found.encoder_names == ("b", "a")


def test_arms_may_be_called_no_and_off(tmp_path):
    text = SMALL.replace("erm:", "no:").replace("  score:", "  off:")
    assert list(read(tmp_path, text).arms) == ["no", "off"]


def test_numbers_may_be_written_with_an_exponent(tmp_path):
    found = read(tmp_path, SMALL + "optim: {lr: 1e-3}\ngrid: {optim.weight_decay: [1e-2, 5E-1]}\n")
    rows = spec.expand(found)
    assert {r.config.optim.lr for r in rows} == {1e-3}
    assert {r.axes["optim.weight_decay"] for r in rows} == {0.01, 0.5}


def test_priority_goes_from_the_arm_to_its_rows(tmp_path):
    arms = {"a": {"views": "all", "priority": 2}, "b": {"views": "routine"}}
    rows = spec.expand(read(tmp_path, small(arms=arms)))
    assert {(r.arm, r.priority) for r in rows} == {("a", 2), ("b", 0)}


@pytest.mark.parametrize("path", SPECS, ids=ids)
def test_a_shipped_spec_says_what_it_is_and_expands_to_what_it_says(path):
    text = path.read_text(encoding="utf-8")
    head = text[: text.index("\n\n")]
    count = re.search(r"^# trials: (\d+)$", head, re.MULTILINE)
    assert count is not None
    assert re.search(r"^# time: \S", head, re.MULTILINE)
    assert re.search(rf"^# command: sweep launch sweeps/{path.name}( |$)", head, re.MULTILINE)
    found = spec.read(path)
    assert not found.warnings
    assert len(spec.expand(found)) == int(count.group(1))


@pytest.mark.parametrize("path", SPECS, ids=ids)
def test_a_shipped_spec_fits_the_schema(path):
    jsonschema.validate(spec_lines.load(path).tree, spec.schema())


@pytest.mark.parametrize("path", SPECS, ids=ids)
def test_the_document_of_a_spec_reads_back_to_the_same_trials(path, tmp_path):
    found = spec.read(path)
    document = found.document()
    again = spec.read(write(tmp_path, yaml.safe_dump(document, sort_keys=False), name="spec.yaml"))
    assert again.name == path.stem
    assert (again.data_path, again.simulation) == (found.data_path, found.simulation)
    assert spec.expand(again) == spec.expand(found)
    assert document["optim"]["weight_decay"] > 0
    assert document["precision"] == "float32"


def test_full_compares_the_eight_foundation_models_in_at_least_3000_trials():
    found = spec.read(SWEEPS / "full.yaml")
    assert len(found.encoder_names) == 8
    assert len(spec.expand(found)) >= 3000


def test_the_arms_of_the_full_sweep_draw_alike():
    rows = spec.expand(spec.read(SWEEPS / "full.yaml"))
    assert len({row.config.sampling for row in rows}) == 1


def test_the_schema_is_valid_and_the_file_is_up_to_date():
    jsonschema.Draft202012Validator.check_schema(spec.schema())
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.spec"], capture_output=True, text=True, check=True
    )
    assert (SWEEPS / "schema.json").read_text(encoding="utf-8") == done.stdout
    assert json.loads(done.stdout) == spec.schema()


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": "x"},
        {"extra": 1},
        {"head": {"kind": "mean", "attention_dim": 3}},
        {"optim": {"lr": 0}},
        {"arms": {"a": {}}},
        {"arms": {"a": {"views": "all", "losses": {"x": {"kind": "y"}}}}},
        {"grid": {"optim.lrr": [1]}},
        {"data": {"simulate": {"x": 1}}},
    ],
)
def test_the_schema_refuses_what_reading_refuses(changes):
    validator = jsonschema.Draft202012Validator(spec.schema())
    assert validator.is_valid(small())
    assert not validator.is_valid(small(**changes))


def test_the_readme_names_every_key():
    text = (SWEEPS / "README.md").read_text(encoding="utf-8")
    for key in spec_axes.settings():
        if key != "views":
            assert f"\n| `{key}` | " in text, key
    for loss in get_args(get_args(Loss)[0]):
        kind = get_args(loss.model_fields["kind"].annotation)[0]
        for key in loss.model_fields:
            row = f"\n| `{kind}` | `{key}` | "
            assert key == "kind" or row in text, (kind, key)
    for search in get_args(get_args(Search)[0]):
        kind = get_args(search.model_fields["kind"].annotation)[0]
        assert f"**`{kind}`**" in text
        for key in search.model_fields:
            rows = [f"\n| {owner} | `{key}` | " for owner in ("all", f"`{kind}`")]
            assert key == "kind" or any(row in text for row in rows), (kind, key)
    own = {*Language.model_fields, *Arm.model_fields}
    sections = {key.partition(".")[0] for key in spec_axes.settings()}
    for key in own - sections | {"views"}:
        assert f"`{key}`" in text, key


def test_the_example_of_the_readme_has_as_many_trials_as_it_says(tmp_path):
    text = (SWEEPS / "README.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    assert len(spec.expand(read(tmp_path, example))) == 250
    assert "= 250 trials" in text


def test_10000_trials_are_read_and_expanded(tmp_path):
    path = write(tmp_path, small(seeds=500, grid={"optim.lr": [0.1, 0.2]}))
    rows = spec.expand(spec.read(path))
    assert len(rows) >= 10_000


def test_every_kind_of_loss_and_mixstyle_can_be_an_arm(tmp_path):
    arms = {
        f"arm{number}": {"views": "all", "losses": {"mine": given}}
        for number, given in enumerate(json.loads(json.dumps(GIVEN)))
    }
    for arm in arms.values():
        if arm["losses"]["mine"]["kind"] == "clam_clustering":
            arm["head"] = {"kind": "clam_sb"}
    arms["style"] = {"views": "routine", "mixstyle": {"probability": 0.5}}
    rows = spec.expand(spec.read(write(tmp_path, small(arms=arms, sampling={"tiles_per_bag": 8}))))
    found = {row.arm: row.config for row in rows}
    assert len(found) == len(GIVEN) + 1
    assert {config.losses[0].kind for config in found.values() if config.losses} == kinds()
    assert found["style"].mixstyle.probability == 0.5


def test_names_of_simulated_cohorts_stay_as_they_were():
    assert spec.simulation_id(Simulation()) == "3c1f21f3e1f4"
    assert spec.simulation_id(Simulation(augmented_views=1)) != "3c1f21f3e1f4"


def test_every_control_is_tuned_over_as_many_settings_as_the_loss():
    rows = spec.expand(spec.read(SWEEPS / "controls.yaml"))
    cells: dict[str, set[object]] = {}
    for row in rows:
        cells.setdefault(row.arm, set()).add(tuple(row.axes.items()))
    plain = {arm for arm, found in cells.items() if len(found) == 1}
    assert plain == {"erm", "all_scans", "mean_over_scans"}
    assert {len(found) for arm, found in cells.items() if arm not in plain} == {3}
    assert {row.config.pairs for row in rows} == set(
        get_args(TrialConfig.model_fields["pairs"].annotation)
    )
    readme = (SWEEPS / "README.md").read_text(encoding="utf-8")
    example = readme.split("## Controls")[1].split("```yaml\n")[1].split("```")[0]
    shown = yaml.safe_load(example)["arms"]
    assert shown == yaml.safe_load((SWEEPS / "controls.yaml").read_text(encoding="utf-8"))["arms"]
