import os

import pytest

from cluster import slurm
from orchestrator import control, events, jobs, jobs_left, launch, preparation, store
from orchestrator.errors import PlanError, StoreError
from orchestrator.preparation import Options
from tests.orchestrator.finished import CODE, SPEC, planned, prepare, write_spec

MORE, FEWER = SPEC.replace("seeds: 2", "seeds: 3"), SPEC.replace("seeds: 2", "seeds: [1]")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """SLURM's programs are not here, so a submitted driver counts as running."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def running(tmp_path):
    """A sweep whose driver was submitted."""
    first = planned(write_spec(tmp_path), tmp_path / "results")
    events.Journal(first.folder, "launch").write(
        "submitted", role="driver", job="7", size="normal", gpus=0, by="launch", tag="t"
    )
    return first


def start(prepared):
    return launch.start(prepared, code=CODE, quoted=None, on_progress=print)


def last_planned(folder):
    return [event for event in events.read_events(folder) if event["event"] == "planned"][-1]


def test_added_trials_are_handed_to_the_driver_that_runs(running, tmp_path):
    more = prepare(write_spec(tmp_path, text=MORE), tmp_path / "results")
    assert start(more) == []
    told = last_planned(running.folder)
    assert told["mode"] == "added" and set(told["trials"]) == set(more.plan.trial_ids)
    added = {trial for ids in told["packs"].values() for trial in ids}
    assert added == set(more.plan.trial_ids) - set(running.plan.trial_ids)
    queued = {trial for job in jobs_left.read_jobs(running.folder) for trial, _ in job.trials}
    assert queued == set(more.plan.trial_ids)


def test_what_the_spec_dropped_leaves_the_table_and_the_driver_can_still_train_it(
    running, tmp_path
):
    fewer = prepare(write_spec(tmp_path, text=FEWER), tmp_path / "results")
    start(fewer)
    assert set(store.read_plan(running.folder)["trial"]) == set(fewer.plan.trial_ids)
    kept = {trial for job in jobs_left.read_jobs(running.folder) for trial, _ in job.trials}
    assert kept == set(running.plan.trial_ids)
    control.cancel_trials(running.folder, fewer.removed)
    assert events.progress(running.folder).failed.keys() == set(fewer.removed)


def test_the_checkpoints_and_the_code_of_a_running_driver_stay(running, tmp_path):
    checkpoint = running.folder.checkpoints / running.plan.packs[0].id
    checkpoint.mkdir()
    before = running.folder.code.read_bytes()
    start(prepare(write_spec(tmp_path, text=MORE), tmp_path / "results"))
    assert checkpoint.is_dir() and running.folder.code.read_bytes() == before


def test_nothing_new_is_refused_while_a_driver_runs(running, tmp_path):
    with pytest.raises(StoreError, match="training already"):
        start(prepare(write_spec(tmp_path), tmp_path / "results"))


def test_nothing_is_handed_to_a_driver_that_slurm_is_ending(running, tmp_path, monkeypatch):
    ends = slurm.Job(id="7", state="COMPLETING", reason="None", node="n", start=None, time_left_s=9)
    monkeypatch.setattr(slurm, "queue", lambda _: {"7": ends})
    more = prepare(write_spec(tmp_path, text=MORE), tmp_path / "results")
    with pytest.raises(StoreError, match="the driver 7 is ending") as caught:
        start(more)
    assert "again in a minute" in caught.value.hint
    assert last_planned(running.folder)["mode"] == "all"


def test_a_launch_says_when_the_driver_ended_while_it_was_handed_trials(
    running, tmp_path, monkeypatch
):
    more = prepare(write_spec(tmp_path, text=MORE), tmp_path / "results")
    record = launch._record

    def ends_meanwhile(*given):
        record(*given)
        events.Journal(running.folder, "driver").write("ended", job="7")

    monkeypatch.setattr(launch, "_record", ends_meanwhile)
    with pytest.raises(StoreError, match="ended meanwhile") as caught:
        start(more)
    assert "launch again" in caught.value.hint


def test_of_two_launches_of_an_edited_spec_the_second_is_refused(running, tmp_path):
    spec = write_spec(tmp_path, text=MORE)
    one, two = (prepare(spec, tmp_path / "results") for _ in range(2))
    start(one)
    with pytest.raises(StoreError, match="training already"):
        start(two)
    told = [event for event in events.read_events(running.folder) if event["event"] == "planned"]
    assert [event.get("mode") for event in told] == ["all", "added"]


def test_a_driver_that_came_after_the_plan_was_made_is_seen(tmp_path):
    spec = write_spec(tmp_path)
    late = prepare(spec, tmp_path / "results")
    first = planned(spec, tmp_path / "results")
    events.Journal(first.folder, "launch").write(
        "submitted", role="driver", job="7", size="normal", gpus=0, by="launch", tag="t"
    )
    with pytest.raises(StoreError, match="training already"):
        start(late)


def test_a_sweep_that_another_launch_planned_meanwhile_is_not_planned_again(tmp_path):
    spec = write_spec(tmp_path)
    late = prepare(spec, tmp_path / "results")
    planned(spec, tmp_path / "results")
    with pytest.raises(StoreError, match="training already"):
        start(late)


def test_a_sweep_in_the_foreground_takes_no_trials_and_the_process_is_named(tmp_path):
    first = planned(write_spec(tmp_path), tmp_path / "results")
    parent = {**jobs.identity(), **jobs._process(os.getppid())}
    events.Journal(first.folder, "launch").write("launching", **parent)
    more = prepare(write_spec(tmp_path, text=MORE), tmp_path / "results")
    with pytest.raises(StoreError, match=f"foreground of process {os.getppid()}") as caught:
        start(more)
    assert "sweep cancel small" in caught.value.hint


def test_missing_embeddings_are_refused_before_anything_is_written(tmp_path):
    text = "data: nowhere\n" + SPEC[SPEC.index("task:") :]
    found = preparation.prepare(
        write_spec(tmp_path, text=text), results=tmp_path / "r", cluster="local", write=True
    )
    with pytest.raises(PlanError, match="tiny: no embeddings"):
        start(found)
    assert not (tmp_path / "r").exists()


def test_the_plan_says_what_was_quoted_and_the_budget(tmp_path):
    options = Options(max_gpu_hours=2.5)
    first = prepare(write_spec(tmp_path), tmp_path / "results", options=options)
    first.folder.create()
    launch._write_planned(
        first, events.Journal(first.folder, "launch"), {"gpu_hours": 1.0, "source": "x"}
    )
    told = last_planned(first.folder)
    assert (told["mode"], told["max_gpu_hours"]) == ("all", 2.5)
    assert told["price"] == {"gpu_hours": 1.0, "source": "x"}
    assert events.progress(first.folder).max_gpu_hours == 2.5


def test_a_cancelled_trial_that_the_spec_drops_leaves_its_neighbours_to_the_driver(
    running, tmp_path
):
    kept = set(prepare(write_spec(tmp_path, text=FEWER), tmp_path / "results").plan.trial_ids)
    gone = next(
        trial.id
        for pack in running.plan.packs
        if len({one.id in kept for one in pack.trials}) == 2
        for trial in pack.trials
        if trial.id not in kept
    )
    control.cancel_trials(running.folder, [gone])
    fewer = prepare(write_spec(tmp_path, text=FEWER), tmp_path / "results")
    assert gone not in fewer.removed
    start(fewer)
    queued = {trial for job in jobs_left.read_jobs(running.folder) for trial, _ in job.trials}
    assert queued == set(running.plan.trial_ids)
    assert gone not in set(store.read_plan(running.folder)["trial"])


def test_a_launch_on_another_host_is_told_from_this_one_by_more_than_its_process(tmp_path):
    first = planned(write_spec(tmp_path), tmp_path / "results")
    there = {**jobs.identity(), "host": "elsewhere"}
    events.Journal(first.folder, "launch").write("launching", **there)
    more = prepare(write_spec(tmp_path, text=MORE), tmp_path / "results")
    with pytest.raises(StoreError, match=f"process {os.getpid()} on elsewhere"):
        start(more)


def test_packs_that_have_a_checkpoint_are_resumed_with_it(tmp_path):
    spec, results = write_spec(tmp_path), tmp_path / "results"
    first = planned(spec, results)
    begun = first.plan.packs[-1]
    (first.folder.checkpoints / begun.id).mkdir()
    (first.folder.checkpoints / "foreign").mkdir()
    again = planned(write_spec(tmp_path, text=MORE), results)
    assert begun in again.plan.packs and again.plan.num_to_train == 18
    assert [path.name for path in first.folder.checkpoints.iterdir()] == [begun.id]


def test_a_probe_leaves_every_checkpoint_and_the_next_launch_resumes_with_them(tmp_path):
    spec, results = write_spec(tmp_path), tmp_path / "results"
    first = planned(spec, results)
    begun = {pack.id for pack in first.plan.packs}
    for name in begun:
        (first.folder.checkpoints / name).mkdir()
    probed = planned(spec, results, options=Options(probe=True))
    assert len(probed.plan.packs) < len(begun)
    assert {path.name for path in first.folder.checkpoints.iterdir()} == begun
    again = planned(write_spec(tmp_path, text=MORE), results)
    assert begun < {pack.id for pack in again.plan.packs}
    assert {path.name for path in first.folder.checkpoints.iterdir()} == begun


def test_a_probe_with_nothing_to_probe_records_nothing(tmp_path):
    spec, results = write_spec(tmp_path), tmp_path / "results"
    first = planned(spec, results)
    folder, plan = first.folder, first.plan
    journal = events.Journal(folder, "driver")
    for kind, pack in {plan.kind(pack): pack for pack in plan.packs}.items():
        (folder.segments / f"{pack.id}-1").mkdir()
        journal.write("accepted", pack=pack.id, attempt=1, worker="w", failed={}, seconds=1.0,
                      kind=kind, lanes=2, device="cpu")  # fmt: skip
    before = folder.plan.read_bytes(), events.read_events(folder)
    probe = prepare(spec, results, options=Options(probe=True))
    assert not probe.plan.packs and start(probe) == []
    assert (folder.plan.read_bytes(), events.read_events(folder)) == before


def test_parts_of_a_pack_stay_parts_after_a_probe(tmp_path):
    spec, results = write_spec(tmp_path), tmp_path / "results"
    first = planned(spec, results)
    pack = first.plan.packs[-1]
    one, *others = (trial.id for trial in pack.trials)
    parts = {"p1": [one], "p2": others}
    events.Journal(first.folder, "driver").write("split", pack=pack.id, into=parts)
    (first.folder.checkpoints / pack.id).mkdir()
    planned(spec, results, options=Options(probe=True))
    again = prepare(spec, results)
    found = {made.id: [trial.id for trial in made.trials] for made in again.plan.packs}
    assert parts.items() <= found.items() and pack.id not in found


def test_a_held_sweep_does_not_begin_here_where_it_would_wait_for_ever(tmp_path):
    spec, results = write_spec(tmp_path), tmp_path / "results"
    first = planned(spec, results)
    control.hold(first.folder)
    with pytest.raises(StoreError, match="held") as caught:
        start(prepare(spec, results))
    assert "sweep hold small --release" in caught.value.hint
    assert not events.progress(first.folder).launches
