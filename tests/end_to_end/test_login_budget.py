"""What commands may cost a login node at 10,000 trials, in counts; CPU seconds are printed only."""

import os

import pytest

from tests.end_to_end import login_budget

# most processes, of these SLURM's programs, files opened to read, folders listed, files written
BUDGET = {
    "status": (1, 1, 40, 4, 0),
    "status --json": (1, 1, 40, 4, 0),
    "status --failed": (1, 1, 40, 4, 0),
    "status --trial": (1, 1, 40, 4, 0),
    "logs": (1, 1, 60, 6, 0),
    "logs --failed": (1, 1, 60, 6, 0),
    "logs TRIAL": (1, 1, 60, 6, 0),
    "launch --dry-run": (6, 3, 60, 60, 0),
    "resume --dry-run": (6, 3, 60, 60, 0),
    "hold": (1, 1, 40, 4, 1),
    "hold --release": (1, 1, 40, 4, 1),
    "cancel --where": (2, 2, 40, 4, 1),
    "doctor": (40, 30, 10, 10, 60),
}
FACTS = ("processes", "slurm", "read", "listed", "written")


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    return login_budget.make(tmp_path_factory.mktemp("wide").resolve())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(login_budget.COMMANDS))
def test_a_command_stays_within_its_counts(wide, name):
    found = login_budget.measure(wide, name)
    print(f"{name}: {found['cpu_s']} s CPU, {found['memory_mb']} MB")  # noqa: T201
    # 3: no cluster here; the counts hold all the same
    assert found["code"] in (0, 1, 3, None), found["stderr"]
    counts = tuple(found[fact] for fact in FACTS)
    over = {
        fact: (count, most)
        for fact, count, most in zip(FACTS, counts, BUDGET[name], strict=True)
        if count > most
    }
    assert over == {}, f"{name}: (counted, allowed) {over}; programs {found['programs']}"


@pytest.mark.slow
def test_the_counts_do_not_grow_with_the_trials(wide):
    """10,000 trials in 600 packs leave a dozen journals: nothing is per trial or per pack."""
    files = sum(len(names) for _, _, names in os.walk(wide.results))
    assert files < 40
    found = login_budget.measure(wide, "status")
    assert found["read"] < 40 and "10,000 trials" in found["stdout"].replace(" ", " ")
