import pytest

from orchestrator import failures
from orchestrator.failures import ATTEMPTS, Failure
from training.errors import DataError


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return failures.classify(caught)


def test_classes_follow_from_the_exception():
    class OutOfMemoryError(RuntimeError):
        pass

    assert raised(DataError("scan A/1 has no tiles")).kind == "data"
    assert raised(MemoryError()).kind == "host_memory"
    assert raised(OutOfMemoryError("CUDA out of memory")).kind == "gpu_memory"
    assert raised(ZeroDivisionError("x")).kind == "bug"


def test_the_trace_ends_with_the_line_that_raised():
    failure = raised(KeyError("missing"))
    assert failure.message == "KeyError: 'missing'"
    assert "raise error" in failure.trace and len(failure.trace.splitlines()) <= 20


@pytest.mark.parametrize("kind", sorted(ATTEMPTS))
def test_a_pack_is_given_up_after_as_many_failures_of_one_class(kind):
    history = []
    for _ in range(ATTEMPTS[kind]):
        assert not history or not failures.final(history)
        history.append(Failure(kind=kind, message="x"))
    assert failures.final(history)


def test_failures_of_other_classes_do_not_count():
    history = [Failure(kind="lost", message="x"), Failure(kind="bug", message="x")]
    assert not failures.final(history)
