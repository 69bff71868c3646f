"""The test bed for tests that need a real SLURM; one for all of them, in one pytest process."""

import os
from collections.abc import Iterator

import pytest

from cluster.testbed import layout, lifecycle, packages
from cluster.testbed.lifecycle import Report


@pytest.fixture(scope="session")
def testbed() -> Iterator[Report]:
    """Bring the test bed up, or join the one that runs; SLURM_CONF names it.

    Its directory ($SWEEP_TESTBED, or the default) and its database stay between sessions. At the
    end it runs on if it ran before.
    """
    if problems := packages.obstacles():
        reason = f"no SLURM test bed here: {'; '.join(problems)}"
        if os.environ.get("SWEEP_REQUIRE_SLURM") == "1":
            pytest.fail(f"{reason} (SWEEP_REQUIRE_SLURM=1)")
        pytest.skip(reason)
    root = layout.default_root()
    ran_before = any(lifecycle.status(root).daemons.values())
    report = lifecycle.up(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(report.slurm_conf))
        yield report
    if not ran_before:
        lifecycle.down(root)
