"""A short chaotic sweep with a fixed seed; the long one is `make chaos`."""

import json

import pytest

from tests.chaos import campaign, faults, report
from tests.chaos.verify import table

pytestmark = pytest.mark.slurm
KINDS = [
    "kill -9 worker", "file times jump", "kill -9 pilot", "kill -9 slurmctld", "requeue pilot",
    "kill -9 driver", "truncated segment", "scancel pilot",
]  # fmt: skip


def test_a_disturbed_sweep_gives_the_table_of_an_undisturbed_one(testbed, tmp_path):
    place = campaign.Place(out=tmp_path.resolve(), bed=testbed.root, slurm_conf=testbed.slurm_conf)
    said = []
    record = campaign.run(
        place, 7, 0, per_sweep=len(KINDS), left_s=1000, only="plain", seeds=2, epochs=150,
        kinds=KINDS, patience_s=(2.0, 5.0), say=said.append,
    )  # fmt: skip
    print("\n".join(said))  # noqa: T201
    print(report.markdown(record["faults"]))  # noqa: T201
    assert record["trials"] == 48
    assert [json.loads(line) for line in place.state.read_text().splitlines()] == [record]
    assert sum(row["answer"] == "applied" for row in record["faults"]) >= 4


def test_faults_are_drawn_by_the_seed_and_cover_every_kind():
    from random import Random

    drawn = [faults.draw(Random(f"1/{n}"), name, 34) for n, name in enumerate(faults.EXTRA)]
    again = [faults.draw(Random(f"1/{n}"), name, 34) for n, name in enumerate(faults.EXTRA)]
    assert drawn == again and all(len(kinds) == 34 for kinds in drawn)
    assert {kind for kinds in drawn for kind in kinds} == set(faults.FAULTS)


def test_the_comparison_of_tables_leaves_out_what_was_paid(tmp_path):
    ours, theirs = tmp_path / "a.csv", tmp_path / "b.csv"
    ours.write_bytes(b"arm,auroc,seconds,gpu_hours\r\nerm,0.5,1,2\r\n")
    theirs.write_bytes(b"arm,auroc,seconds,gpu_hours\r\nerm,0.5,3,4\r\n")
    assert table(ours) == table(theirs) == b"arm,auroc\r\nerm,0.5\r\n"
    theirs.write_bytes(b"arm,auroc,seconds,gpu_hours\r\nerm,0.6,3,4\r\n")
    assert table(ours) != table(theirs)
