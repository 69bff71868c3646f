import json

import pandas as pd
import pytest

from orchestrator import events, jobs_left, price, spec, store
from orchestrator.events import Journal
from orchestrator.folder import Folder
from tests.orchestrator import specs
from training.config import ScoreLoss
from training.config_lanes import loss_key

SCORE = ScoreLoss(kind="score", weight=0.5)


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "sweep")
    made.create()
    rows = spec.expand(specs.read(tmp_path, specs.SMALL))[:3]
    plan = pd.DataFrame({
        "cell": 0, "trial": ["a", "b", "c"], "encoder": "uni", "priority": [0, 2, 0],
        "pack_family": ["f", "f", "g"], "config": [row.config.model_dump_json() for row in rows],
    })  # fmt: skip
    store.write_plan(made, plan)
    return made


def launched(folder):
    journal = Journal(folder, "launch")
    packs = {"p": ["a", "b"], "q": ["c"]}
    journal.write("planned", trials=["a", "b", "c"], cells=1, packs=packs, retried=[])
    return journal


def test_packs_that_miss_a_result_are_left_with_what_the_broker_needs(folder):
    journal = launched(folder)
    journal.write("assigned", pack="q", attempt=1, worker="w")
    journal.write("accepted", pack="q", attempt=1, failed={}, seconds=1.0)
    (folder.segments / "q-1").mkdir()
    (job,) = jobs_left.read_jobs(folder)
    assert (job.pack, job.encoder, job.priority, job.size, job.alone) == (
        "p", "uni", 2, "normal", False
    )  # fmt: skip
    assert [trial for trial, _ in job.trials] == ["a", "b"]
    rows = store.read_plan(folder)
    given = [spec.TrialConfig.model_validate_json(text) for text in rows["config"]]
    assert job.configs() == given[:2]
    assert json.loads(job.trials[1][1]) == {"seed": 1}
    config = given[0]
    assert job.kind == price.kind(config, {loss_key(config)})


def test_packs_of_several_losses_are_of_their_own_kind(folder):
    launched(folder)
    plan = store.read_plan(folder)
    configs = [spec.TrialConfig.model_validate_json(text) for text in plan["config"]]
    scored = configs[1].model_copy(update={"views": "all", "losses": (SCORE,)})
    plan["config"] = [each.model_dump_json() for each in (configs[0], scored, configs[2])]
    store.write_plan(folder, plan)
    found = {job.pack: job for job in jobs_left.read_jobs(folder)}
    assert found["p"].kind == price.kind(configs[0], {loss_key(configs[0]), loss_key(scored)})
    assert found["p"].configs() == [configs[0], scored]


def test_packs_whose_trials_a_search_may_end_are_of_another_kind(folder):
    launched(folder)
    plain = {job.pack: job.kind for job in jobs_left.read_jobs(folder)}
    store.write_plan(folder, store.read_plan(folder).assign(bracket=["", "b 1 3", ""]))
    found = {job.pack: job for job in jobs_left.read_jobs(folder)}
    assert found["p"].kind != plain["p"] and found["q"].kind == plain["q"]
    assert found["p"].brackets == (("b", "b 1 3"),) and found["q"].brackets == ()


def test_given_up_packs_are_not_left(folder):
    journal = launched(folder)
    journal.write("failed", pack="p", attempt=1, failure="data", message="m", final=True)
    journal.write("cancelled", trials=["c"])
    assert jobs_left.read_jobs(folder) == []


def test_a_new_driver_goes_on_with_parts_sizes_and_shares(folder):
    journal = launched(folder)
    journal.write("split", pack="p", into={"x": ["a"], "y": ["b"]}, reason="gpu_memory")
    journal.write("moved", pack="y", size="large", alone=False)
    journal.write("released", pack="q", attempt=1, reason="drain", share=0.4)
    found = {job.pack: job for job in jobs_left.read_jobs(folder)}
    assert list(found) == ["x", "y", "q"]
    assert found["y"].size == "large" and found["q"].share == 0.4 and found["x"].share == 0


def test_outcomes_of_first_attempts_are_told_to_the_breaker(folder):
    journal = launched(folder)
    journal.write("accepted", pack="q", attempt=1, failed={}, seconds=1.0)
    (folder.segments / "q-1").mkdir()
    journal.write(
        "failed", pack="p", attempt=1, failure="bug", message="m", signature="s", final=False
    )
    assert sorted(jobs_left.first_outcomes(events.progress(folder))) == ["", "s"]


def test_successes_of_earlier_launches_are_not_told_to_the_breaker(folder):
    journal = launched(folder)
    journal.write("accepted", pack="q", attempt=1, failed={}, seconds=1.0)
    (folder.segments / "q-1").mkdir()
    journal.write("planned", trials=["a", "b", "c"], cells=1, packs={"p": ["a", "b"]}, retried=[])
    journal.write(
        "failed", pack="p", attempt=1, failure="bug", message="m", signature="s", final=False
    )
    assert jobs_left.first_outcomes(events.progress(folder)) == ["s"]


def test_failures_that_tell_nothing_about_a_pack_are_not_told_to_the_breaker(folder):
    journal = launched(folder)
    journal.write("failed", pack="p", attempt=1, failure="preempted", message="m", final=False)
    journal.write("failed", pack="q", attempt=1, failure="timeout", message="m", final=False)
    assert jobs_left.first_outcomes(events.progress(folder)) == [""]


def test_parts_of_a_divided_pack_go_on_as_it_stood_after_a_restart(folder):
    journal = launched(folder)
    failed = {"failure": "host_memory", "message": "m", "signature": "s", "final": False}
    journal.write("failed", pack="p", attempt=1, **failed)
    journal.write("moved", pack="p", size="large", alone=True)
    journal.write("split", pack="p", into={"x": ["a"], "y": ["b"]}, reason="host_memory")
    journal.write("failed", pack="y", attempt=1, **failed | {"failure": "lost"})
    state = events.progress(folder)
    one = ("host_memory", "s")
    assert state.histories == {"x": [one], "y": [one, ("lost", "s")]}
    assert jobs_left.first_outcomes(state) == []
    found = {job.pack: job for job in jobs_left.read_jobs(folder)}
    assert found["x"].size == found["y"].size == "large" and found["x"].alone


def test_a_pack_without_configurations_is_passed_over_with_a_warning(folder, caplog):
    journal = launched(folder)
    journal.write(
        "planned", trials=["a", "b", "c"], cells=1, packs={"x": ["a", "gone"]}, retried=[],
        mode="added",
    )  # fmt: skip
    assert [job.pack for job in jobs_left.read_jobs(folder)] == ["p", "q"]
    assert "pack=x" in caplog.text
