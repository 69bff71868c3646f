import pandas as pd
import pytest

from cluster import profile
from cluster.errors import ClusterError, ProfileError
from orchestrator import control, events, preparation, store, trial
from orchestrator.errors import PlanError
from orchestrator.preparation import Options
from tests.orchestrator import finished
from tests.orchestrator.finished import SPEC, planned, prepare, write_spec

SLURM = "kind: slurm\npartition: gpu\nlanes_max: 2\npilots: 3\n"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """SLURM's programs are not here, and the user has no profiles of their own."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture
def spec(tmp_path):
    return write_spec(tmp_path)


@pytest.fixture
def slurm(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SLURM)
    return str(path)


def write_default(tmp_path, text):
    folder = tmp_path / "config" / "sweep" / "profiles"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text(text)


def fail(prepared, kind):
    """Let the first pack fail for good; return its trials."""
    pack = prepared.plan.packs[0]
    events.Journal(prepared.folder, "driver").write(
        "failed", pack=pack.id, attempt=1, worker="w", failure=kind, message="m", trace="",
        final=True,
    )  # fmt: skip
    return {trial.id for trial in pack.trials}


def submit_driver(prepared):
    """Let a driver job be submitted, of which SLURM says nothing."""
    journal = events.Journal(prepared.folder, "launch")
    journal.write("submitted", role="driver", job="7", size="normal", gpus=0, by="launch", tag="t")


def test_the_flag_names_the_profile_before_the_spec_and_the_spec_before_the_default(tmp_path):
    results = tmp_path / "results"
    write_default(tmp_path, "kind: local\nlanes_max: 2\n")
    plain = write_spec(tmp_path)
    named = write_spec(tmp_path, name="named", text=f"{SPEC}cluster: local\n")
    assert prepare(plain, results, cluster=None).cluster == "default"
    assert prepare(named, results, cluster=None).cluster == "local"
    assert prepare(named, results, cluster="default").cluster == "default"


def test_without_slurm_the_default_is_this_machine(spec, tmp_path):
    assert prepare(spec, tmp_path / "results", cluster=None).cluster == "local"


def test_a_local_gpu_gets_one_worker_and_not_one_per_core():
    local = {"kind": "local", "device": "cuda"}
    for given, expected in (({}, 1), ({"gpus": 2}, 2), ({"workers": 3}, 3)):
        assert preparation.places(profile.parse({**local, **given}, where="x")) == expected


def test_a_wrong_profile_is_a_profile_error_and_nothing_is_written(spec, tmp_path):
    (tmp_path / "site.yaml").write_text(f"{SLURM}walltime: 5\n")
    with pytest.raises(ProfileError, match=r"walltime: unknown key; did you mean walltime_min"):
        prepare(spec, tmp_path / "results", cluster=str(tmp_path / "site.yaml"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["100%j", "back\\slash", "two\nlines"])
def test_a_results_path_that_slurm_would_read_otherwise_is_refused(spec, slurm, tmp_path, name):
    results = tmp_path / name / "results"
    with pytest.raises(PlanError, match="results may not lie here"):
        prepare(spec, results, cluster=slurm)
    assert not (tmp_path / name).exists()
    assert prepare(spec, results, cluster="local").plan.num_to_train
    tame = tmp_path / "a b; touch $(touch hurt) 'q' \"d\" ü" / "results"
    assert prepare(spec, tame, cluster=slurm).plan.num_to_train


def test_slurm_that_does_not_answer_is_a_warning_in_a_dry_run_and_an_error_else(
    spec, slurm, tmp_path
):
    results = tmp_path / "results"
    found = prepare(spec, results, cluster=slurm, site="warn", write=False)
    assert any("SLURM does not answer" in line for line in found.warnings)
    with pytest.raises(ClusterError) as caught:
        prepare(spec, results, cluster=slurm, site="require")
    assert not isinstance(caught.value, ProfileError)
    assert not results.exists()


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_must_be_above_zero(spec, tmp_path, hours):
    with pytest.raises(PlanError, match="--max-gpu-hours"):
        prepare(spec, tmp_path / "results", options=Options(max_gpu_hours=hours))


def test_training_in_the_foreground_needs_an_allocation_on_a_cluster_only(
    spec, slurm, tmp_path, monkeypatch
):
    results, options = tmp_path / "results", Options(foreground=True)
    with pytest.raises(PlanError, match="inside an allocation") as caught:
        prepare(spec, results, cluster=slurm, options=options)
    assert "salloc" in caught.value.hint
    assert not prepare(spec, results, options=options).submits
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    inside = prepare(spec, results, cluster=slurm, options=options)
    assert not inside.submits and inside.profile.pilots == 1


def test_a_probe_has_one_pack_of_each_kind_and_one_pilot(spec, slurm, tmp_path):
    made = prepare(spec, tmp_path / "results", cluster=slurm, options=Options(probe=True))
    assert made.profile.pilots == 1
    assert {pack.trials[0].config.views for pack in made.plan.packs} == {"routine", "all"}
    assert len(made.plan.packs) == 2 and len(made.plan.trials) == 12


@pytest.mark.parametrize("kind", ["data", "numeric", "cancelled"])
def test_permanent_failures_are_trained_again_only_if_that_is_asked(spec, tmp_path, kind):
    first = planned(spec, tmp_path / "results")
    failed = fail(first, kind)
    again = prepare(spec, tmp_path / "results")
    assert again.plan.failed == failed and again.plan.num_to_train == 12 - len(failed)
    asked = prepare(spec, tmp_path / "results", options=Options(retry=(kind,)))
    assert not asked.plan.failed and asked.plan.num_to_train == 12


def test_a_bug_is_tried_again(spec, tmp_path):
    fail(planned(spec, tmp_path / "results"), "bug")
    assert prepare(spec, tmp_path / "results").plan.num_to_train == 12


def test_a_trial_taken_out_of_the_spec_and_put_back_is_trained(spec, tmp_path):
    results = tmp_path / "results"
    planned(spec, results)
    shorter = planned(write_spec(tmp_path, text=SPEC.replace("seeds: 2", "seeds: 1")), results)
    removed = set(prepare(write_spec(tmp_path), results).plan.trial_ids) - set(
        shorter.plan.trial_ids
    )
    control.cancel_trials(shorter.folder, removed)
    back = prepare(write_spec(tmp_path), results).plan
    assert removed and not back.failed and back.num_to_train == 12


def test_while_a_driver_runs_only_what_is_new_is_planned(spec, tmp_path):
    results = tmp_path / "results"
    first = planned(spec, results)
    submit_driver(first)
    more = prepare(write_spec(tmp_path, text=SPEC.replace("seeds: 2", "seeds: 3")), results)
    assert (more.mode, more.removed) == ("added", ())
    assert more.plan.elsewhere == set(first.plan.trial_ids)
    added = {trial.id for pack in more.plan.packs for trial in pack.trials}
    assert added == set(more.plan.trial_ids) - set(first.plan.trial_ids) and len(added) == 6


def test_while_a_driver_runs_what_the_spec_dropped_is_found(spec, tmp_path):
    first = planned(spec, tmp_path / "results")
    submit_driver(first)
    fewer = prepare(
        write_spec(tmp_path, text=SPEC.replace("seeds: 2", "seeds: 1")), tmp_path / "results"
    )
    assert set(fewer.removed) == set(first.plan.trial_ids) - set(fewer.plan.trial_ids)
    assert len(fewer.removed) == 6 and not fewer.plan.packs


def test_what_a_running_driver_gave_up_stays_given_up(spec, tmp_path):
    first = planned(spec, tmp_path / "results")
    failed = fail(first, "bug")
    submit_driver(first)
    again = prepare(spec, tmp_path / "results")
    assert again.plan.failed == failed and not again.plan.packs


def test_a_running_sweep_keeps_its_profile_unless_another_is_named(spec, slurm, tmp_path):
    first = planned(spec, tmp_path / "results", cluster=slurm)
    submit_driver(first)
    assert prepare(spec, tmp_path / "results", cluster=None).cluster == slurm


def test_a_dry_run_changes_nothing(spec, tmp_path):
    prepare(spec, tmp_path / "results", write=False)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    folder = finished.train(planned(spec, tmp_path / "results"))
    before = {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")}
    assert prepare(spec, tmp_path / "results", write=False).plan.num_to_train == 0
    assert {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")} == before


def unjudged(prepared, pack, *, tables=None):
    """Leave the segment of a pack, torn unless tables are given, that no driver judged."""
    if tables:
        store.write_segment(prepared.folder, pack.id, 1, tables=tables, artefacts={})
        return
    folder = prepared.folder.segments / f"{pack.id}-1"
    folder.mkdir()
    (folder / "trials.parquet").write_bytes(b"torn")


@pytest.mark.parametrize("retry", [(), ("damaged",)])
def test_a_damaged_result_that_no_driver_judged_is_trained_again(spec, tmp_path, retry):
    first = planned(spec, tmp_path / "results")
    unjudged(first, first.plan.packs[0])
    again = prepare(spec, tmp_path / "results", options=Options(retry=retry))
    assert again.plan.num_to_train == 12 and not again.state.unjudged


def test_a_lane_that_died_is_no_damage(spec, tmp_path):
    first = planned(spec, tmp_path / "results")
    pack = first.plan.packs[0]
    ids = [trial.id for trial in pack.trials]
    frame = pd.DataFrame(
        {"trial": ids, "state": "done", "failure": "", "seconds": 1.0, "score": 0.5}
    )
    frame.loc[0, ["state", "failure"]] = ["failed", "numeric: nan"]
    unjudged(first, pack, tables={"trials": frame, "curves": frame, "predictions": frame[1:]})
    again = prepare(spec, tmp_path / "results", options=Options(retry=("damaged",)))
    assert again.plan.failed == {ids[0]} and again.plan.done == set(ids[1:])


def test_nothing_is_damaged_in_a_sweep_that_was_never_launched(spec, tmp_path):
    made = prepare(spec, tmp_path / "results", options=Options(retry=("damaged",)))
    assert made.plan.num_to_train == 12


def test_packs_that_were_split_stay_split(spec, tmp_path):
    first = planned(spec, tmp_path / "results")
    pack = next(pack for pack in first.plan.packs if len(pack.trials) > 1)
    ids = [trial.id for trial in pack.trials]
    parts = {trial.hash_of(" ".join(half)): half for half in (ids[:1], ids[1:])}
    events.Journal(first.folder, "driver").write(
        "split", pack=pack.id, into=parts, reason="gpu_memory"
    )
    again = planned(spec, tmp_path / "results")
    found = {one.id: [item.id for item in one.trials] for one in again.plan.packs}
    assert parts.items() <= found.items() and pack.id not in found
    once_more = prepare(spec, tmp_path / "results", write=False)
    assert {one.id for one in once_more.plan.packs} == found.keys()
