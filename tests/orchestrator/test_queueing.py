import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import queueing
from orchestrator.events import Observation
from orchestrator.queueing import Lengths, choose
from orchestrator.worker import Job, Place


def job(pack, *, encoder="uni", lanes=2, **fields):
    trials = tuple((f"{pack}.{lane}", "{}") for lane in range(lanes))
    return Job(pack=pack, encoder=encoder, trials=trials, kind="k", **fields)


def lengths(*seconds, lanes=2):
    return Lengths(
        [Observation(kind="k", lanes=lanes, seconds=s, device="cpu") for s in seconds]
    )  # fmt: skip


def place(left, walltime=1000.0, **fields):
    return Place(pilot="7", node="n", seconds_left=left, walltime_s=walltime, **fields)


def chosen(waiting, where=None, *, resident="", known=None, neighbours=0):
    found, reason = choose(
        waiting, where or Place(), resident=resident, lengths=known or Lengths(),
        neighbours=neighbours,
    )  # fmt: skip
    return found.pack if found else reason


def test_urgent_packs_go_first_and_of_those_what_is_resident():
    waiting = [
        job("a"), job("b", priority=1), job("c", priority=1, encoder="gigapath"),
        job("d", encoder="gigapath"),
    ]  # fmt: skip
    assert chosen(waiting) == "b"
    assert chosen(waiting, resident="gigapath") == "c"
    assert chosen(waiting, resident="conch") == "b"
    assert chosen([job("a"), job("d", encoder="gigapath")], resident="gigapath") == "d"


def test_nothing_waits():
    assert chosen([]) == "nothing"


def test_a_pack_must_fit_the_time_that_is_left():
    known = lengths(100.0, 110.0)
    assert chosen([job("a")], place(170.0), known=known) == "a"
    assert chosen([job("a")], place(160.0), known=known) == "time"
    assert chosen([job("a", share=0.5)], place(110.0), known=known) == "a"


def test_a_shorter_pack_is_taken_where_a_longer_one_does_not_fit():
    waiting = [job("long", lanes=8, priority=1), job("short")]
    assert chosen(waiting, place(200.0), known=lengths(100.0)) == "short"


def test_a_pack_of_unknown_length_needs_a_quarter_of_the_time():
    assert chosen([job("a")], place(250.0)) == "a"
    assert chosen([job("a")], place(249.0)) == "time"


def test_a_pack_longer_than_any_pilot_begins_on_a_fresh_one():
    known = lengths(5000.0)
    assert chosen([job("a")], place(990.0), known=known) == "a"
    assert chosen([job("a")], place(500.0), known=known) == "time"


def test_short_pilots_take_what_no_pilot_could_hold():
    # Two minutes of walltime, of which a signal and the start leave one at most.
    known = lengths(38.0, 40.0)
    where = place(58.0, walltime=120.0)
    known.visit(where)
    assert chosen([job("a")], where, known=known) == "a"
    assert chosen([job("a")], place(30.0, walltime=120.0), known=known) == "time"


@given(
    st.lists(st.floats(1, 1e5), min_size=1, max_size=5), st.floats(30, 1e5), st.floats(0.1, 1),
    st.integers(1, 64),
)  # fmt: skip
def test_every_pack_fits_a_pilot_that_is_as_fresh_as_they_come(seen, walltime, kept, lanes):
    known, where = lengths(*seen), place(walltime * kept, walltime=walltime)
    known.visit(where)
    assert chosen([job("a", lanes=lanes)], where, known=known) == "a"


def test_on_one_machine_time_does_not_matter():
    assert chosen([job("a")], known=lengths(1e9)) == "a"


def test_large_packs_wait_for_large_pilots_which_take_normal_ones_too():
    assert chosen([job("a", size="large")], place(900.0)) == "size"
    assert chosen([job("a", size="large")], place(900.0, size="large")) == "a"
    assert chosen([job("a")], place(900.0, size="large")) == "a"


def test_a_pack_that_must_be_alone_waits_for_an_idle_pilot():
    assert chosen([job("a", alone=True)], neighbours=1) == "alone"
    assert chosen([job("a", alone=True), job("b")], neighbours=1) == "b"
    assert chosen([job("a", alone=True)]) == "a"


def test_a_pilot_leaves_for_time_only_where_no_pack_waits_for_something_else():
    waiting = [job("a", alone=True), job("b", lanes=64)]
    assert chosen(waiting, place(200.0), known=lengths(100.0), neighbours=1) == "alone"


def test_lengths_are_learnt_and_bounded():
    known = Lengths()
    assert math.isnan(known.expected(job("a"))) and math.isnan(known.upper(job("a")))
    for seconds in range(1, 1001):
        known.see(job("a"), float(seconds), "cpu")
    assert known.expected(job("b")) == pytest.approx(975.5)
    assert known.upper(job("b")) > 1000


def test_what_remains_is_the_untrained_share_and_unknown_where_one_pack_is():
    known = lengths(100.0)
    assert known.remaining([(job("a"), 0.5), (job("b"), 0.0)]) == pytest.approx(150)
    other = Job(pack="c", encoder="uni", trials=(("t", "{}"),), kind="other")
    assert math.isnan(known.remaining([(job("a"), 0.5), (other, 0.0)]))
    assert known.remaining([]) == 0


def test_a_part_has_a_name_of_its_own_and_starts_anew():
    whole = job("a", lanes=4, share=0.7, priority=3, size="large")
    first = queueing.part(whole, whole.trials[:2])
    second = queueing.part(whole, whole.trials[2:])
    assert len({whole.pack, first.pack, second.pack}) == 3
    assert first.trials + second.trials == whole.trials
    assert (first.share, first.priority, first.size) == (0.0, 3, "large")
    assert queueing.part(whole, whole.trials[:2]) == first
