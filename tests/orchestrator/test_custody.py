from orchestrator.custody import Custody
from orchestrator.worker import Assignment, Job, Place

HERE = Place(pilot="7", node="n1")


def assignment(pack="p", attempt=1):
    return Assignment(
        job=Job(pack=pack, encoder="uni", trials=((f"{pack}.t", "{}"),)), attempt=attempt
    )  # fmt: skip


def test_a_pack_is_with_its_worker_until_it_comes_back():
    out = Custody()
    out.hand("w", assignment(), HERE)
    out.note("w", 0.4)
    assert len(out) == 1 and out.busy() == {"7": 1} and out.share("w") == 0.4
    assert out.forget("w", assignment()).place == HERE
    assert len(out) == 0 and out.busy() == {} and out.packs() == set() and out.share("w") == 0


def test_an_attempt_that_nobody_has_is_not_closed_twice():
    out = Custody()
    out.hand("w", assignment(attempt=2), HERE)
    assert out.forget("w", assignment(attempt=1)) is None
    assert out.forget("v", assignment(attempt=2)) is None and len(out) == 1


def test_a_vanished_worker_leaves_its_pack_to_be_judged():
    out = Custody()
    out.hand("w", assignment(), HERE)
    assert out.lose("w").pilot == "7" and out.lose("w") is None
    assert [one.node for one in out.lost()] == ["n1"] and out.packs() == {"p"} and len(out) == 0
    assert out.find("w").assignment == assignment() and out.find("w") is None


def test_one_name_can_lose_packs_on_two_pilots():
    out = Custody()
    for pack, pilot in (("p", "7"), ("q", "8")):
        out.hand("w", assignment(pack), Place(pilot=pilot, node=pilot))
        out.lose("w")
    assert [one.pilot for one in out.lost()] == ["7", "8"]
    assert [out.find("w").place.pilot for _ in range(2)] == ["7", "8"]


def test_a_worker_that_was_taken_for_lost_may_still_report():
    out = Custody()
    out.hand("w", assignment(), HERE)
    out.lose("w")
    assert out.forget("w", assignment()).place == HERE and out.lost() == []


def test_a_new_pack_starts_at_nothing():
    out = Custody()
    out.note("w", 0.9)
    out.hand("w", assignment(), HERE)
    assert [share for _, share in out] == [0.0]
