"""What another user of the owner's group may do with a sweep: with `share: group`, look at it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator import events, store
from tests.orchestrator.stories import Story
from tests.orchestrator.test_store import tables

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs the right to be somebody else")
COLLEAGUE = """\
import os, sys
import pandas, pyarrow.parquet
from orchestrator import cli, detail, logs, lookup, quote, store, stream
from orchestrator.folder import Folder
os.setgroups([])
os.setuid(65534)
if sys.argv[1:2] == ["siblings"]:
    sys.exit(len(list(quote._siblings(Folder(cli.Path(sys.argv[2]))))))
cli.main()
"""


@pytest.fixture
def story(monkeypatch):
    """A sweep that was private until now, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        made = Story(Path(place) / "small", monkeypatch)
        made.plan({"p": ["a"]})
        made.folder.plan.chmod(0o600)
        made.tell(1, "launch", "submitted", role="driver", job="7")
        store.write_segment(made.folder, "p", 1, tables=tables("a"), artefacts={"scans": {}})
        (made.folder.pool / "submitit").mkdir()
        (made.folder.pool / "submitit" / "7_0_log.out").write_text("said\n")
        yield made


def colleague(*words):
    done = subprocess.run(
        [sys.executable, "-c", COLLEAGUE, *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_group_may_look_at_a_sweep_that_was_private_before(story):
    where = ("--results", story.folder.root.parent)
    code, _, said = colleague("status", "small", *where)
    assert code == 1 and "Permission denied" in said
    story.folder.create("group")
    code, shown, said = colleague("status", "small", "--check", *where)
    assert code == 0 and "1 whole, 0 damaged" in shown and "only the sweep's owner may" in shown
    code, shown, said = colleague("logs", "small", *where)
    assert code == 0 and "failures" in shown and "logs of jobs are not shown" in said
    code, shown, said = colleague("logs", "small", "--driver", *where)
    assert code == 1 and "only the sweep's owner may read it" in said
    for path in (story.folder.pool, story.folder.checkpoints):
        assert path.stat().st_mode & 0o077 == 0


def test_a_sweep_that_is_closed_to_a_colleague_tells_no_price_and_stops_no_launch(story):
    mine = story.folder.root.with_name("mine")
    assert colleague("siblings", mine)[0] == 0
    story.folder.root.chmod(0o750)
    story.folder.segments.chmod(0o750)
    story.folder.events.chmod(0o750)  # as earlier versions shared what was private
    assert colleague("siblings", mine)[0] == 0
    story.folder.create("group")
    assert colleague("siblings", mine)[0] == 1
    assert events.progress(story.folder).done == ["a"]
