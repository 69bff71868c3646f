from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.broker import Broker
from orchestrator.events import Journal
from orchestrator.failures import ATTEMPTS, Failure
from orchestrator.folder import Folder
from orchestrator.worker import Job


def jobs(count, *, encoders=("uni",)):
    return [
        Job(pack=f"p{i}", encoder=encoders[i % len(encoders)], trials=((f"t{i}", "{}"),))
        for i in range(count)
    ]


def make(tmp_path, given_jobs, **attempts):
    folder = Folder(tmp_path / "sweep")
    folder.create()
    journal = Journal(folder, "driver")
    journal.write(
        "planned", trials=[t for job in given_jobs for t, _ in job.trials], cells=1, retried=[],
        packs={job.pack: [t for t, _ in job.trials] for job in given_jobs},
    )  # fmt: skip
    return Broker(given_jobs, attempts=attempts, journal=journal), folder


def test_packs_are_handed_out_once_and_in_order(tmp_path):
    broker, _ = make(tmp_path, jobs(3))
    drawn = [broker.draw(f"w{i}") for i in range(4)]
    assert [a.job.pack for a in drawn[:3]] == ["p0", "p1", "p2"]
    assert drawn[3] is None


def test_a_worker_gets_the_encoder_it_has_in_memory(tmp_path):
    broker, _ = make(tmp_path, jobs(4, encoders=("uni", "virchow2")))
    assert broker.draw("w", resident="virchow2").job.pack == "p1"
    assert broker.draw("x", resident="unknown").job.pack == "p0"


def test_attempts_go_on_where_the_last_driver_stopped(tmp_path):
    broker, _ = make(tmp_path, jobs(1), p0=4)
    assert broker.draw("w").attempt == 5


def test_a_lost_worker_gives_its_pack_back_until_it_is_given_up(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    for attempt in range(1, ATTEMPTS["lost"] + 1):
        assert broker.draw(f"w{attempt}").attempt == attempt
        broker.lose(f"w{attempt}")
    assert broker.draw("w") is None
    assert events.progress(folder).failed == {"t0": "lost"}


def test_losing_a_worker_that_holds_nothing_changes_nothing(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    broker.lose("unknown")
    assert broker.state()["waiting"] == 1


def test_a_data_error_is_not_tried_again(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    broker.fail("w", broker.draw("w"), Failure(kind="data", message="scan A has no tiles"))
    assert broker.draw("w") is None
    assert broker.state()["failed"] == 1


def test_a_zombie_that_finishes_late_counts_if_it_is_first(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    zombie = broker.draw("zombie")
    broker.lose("zombie")
    assert broker.accept("zombie", zombie, failed={}, seconds=1.0)
    assert broker.draw("w") is None
    assert events.progress(folder).accepted == {"t0": ("p0", 1)}


def test_the_second_result_of_a_pack_is_refused(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    zombie = broker.draw("zombie")
    broker.lose("zombie")
    again = broker.draw("w")
    assert broker.accept("w", again, failed={}, seconds=1.0)
    assert not broker.accept("zombie", zombie, failed={}, seconds=1.0)
    assert events.progress(folder).accepted == {"t0": ("p0", 2)}
    assert broker.state()["done"] == 1


def test_a_released_pack_costs_nothing_and_comes_first(tmp_path):
    broker, _ = make(tmp_path, jobs(2))
    for _ in range(10):
        broker.release("w", broker.draw("w"))
    assert broker.draw("w").job.pack == "p0"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("adflr"), st.integers(0, 3)), max_size=60))
def test_whatever_workers_do_every_pack_ends_exactly_once(tmp_path_factory, steps):
    broker, folder = make(tmp_path_factory.mktemp("b"), jobs(5))
    held = {}
    for step, number in steps:
        worker = f"w{number}"
        if step == "d" and worker not in held and (drawn := broker.draw(worker)):
            held[worker] = drawn
        elif worker in held:
            assignment = held.pop(worker)
            if step == "a":
                broker.accept(worker, assignment, failed={}, seconds=0.1)
            elif step == "f":
                broker.fail(worker, assignment, Failure(kind="bug", message="x"))
            elif step == "l":
                broker.lose(worker)
            else:
                broker.release(worker, assignment)
    for worker, assignment in held.items():
        broker.accept(worker, assignment, failed={}, seconds=0.1)
    while drawn := broker.draw("last"):
        broker.accept("last", drawn, failed={}, seconds=0.1)
    state = broker.state()
    assert state["waiting"] == state["training"] == 0
    assert state["done"] + state["failed"] == state["total"] == 5
    folded = events.progress(folder)
    assert len(folded.done) + len(folded.given_up) == 5
    assert len(folded.done) == state["done"]
