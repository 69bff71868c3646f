from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from tests.coverage import report, work, world
from tests.coverage.__main__ import main


@pytest.fixture
def true(tmp_path):
    (tmp_path / "truth.json").write_text(
        '{"auroc": [0.845, 0.79], "balanced_accuracy": [0.76, 0.71], "concordance": [0.64, 0.62]}'
    )
    return tmp_path


def test_a_cohort_is_the_same_every_time_and_models_differ():
    one, two = world.cohort(30, 4), world.cohort(30, 4)
    np.testing.assert_array_equal(one.score, two.score)
    assert not np.array_equal(world.cohort(30, 5).label, one.label)
    assert one.score.shape == one.risk.shape == (2, 30, 2)
    assert 0.2 < world.cohort(5000, 1).event.mean() < 0.5


def test_a_small_coverage_is_computed_once_and_shown(true, monkeypatch):
    monkeypatch.setattr(work, "NUM_DRAWS", 100)
    monkeypatch.setattr(work, "_PART", 2)
    page = true / "page.md"
    words = ["--out", true, "--page", page, "--size", 50, "--cohorts", 4, "--workers", 1]
    # In this process: a new one would have the whole number of draws.
    monkeypatch.setattr(work, "ProcessPoolExecutor", Here)
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "| auroc | single | 50 |" in done.output and "expanded" in done.output
    assert not page.exists()
    stamps = {path: path.stat().st_mtime_ns for path in true.glob("50-*.json")}
    assert len(stamps) == 2
    CliRunner().invoke(main, [str(word) for word in words])
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    late = CliRunner().invoke(main, [*(str(word) for word in words), "--cohorts", "8",
                                     "--minutes", "0"])  # fmt: skip
    assert late.exit_code == 1 and "INCOMPLETE" in late.output


def test_what_lies_below_is_bold_and_what_cannot_be_told_apart_is_not():
    counts = work.Counts(
        held=Counter(
            {(50, metric, kind, method): held
             for metric in world.METRICS for kind in ("single", "difference")
             for method, held in (("percentile", 900), ("bca", 945), ("expanded", 990))}
        ),
        rejected=Counter({(50, "bca"): 100, (50, "expanded"): 50}),
        cohorts=Counter({50: 1000}),
        seconds=60.0,
    )  # fmt: skip
    text = report.markdown(counts, commit="c")
    assert "| auroc | single | 50 | **90.0 (88.0 to 91.8)** | 94.5 (92.9 to 95.8) | 99.0" in text
    assert "| 50 | 0.0 (0.0 to 0.4) | **10.0 (8.2 to 12.0)** | 5.0 (3.7 to 6.5) |" in text


class Here:
    """Runs what a pool of processes would, in this one."""

    def __init__(self, _workers, *, initializer):
        """Leave out `initializer`: it would end this process with its parent."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        future.set_result(function(*arguments))
        return future
