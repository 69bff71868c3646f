from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.science import __main__, made_up, nulls, report, settings, statistics, summary, work
from tests.science.settings import ARMS, PRIMARY_ARM, REFERENCE, WORLDS

ORIGIN = report.Origin(command="make science", settings="Frozen.", workers=2, tuning="Tried.")
GOOD = {"inconsistency": -0.5, "auroc": 0.01}


def test_the_estimates_are_those_of_the_records() -> None:
    found = made_up.found({("base", "infonce"): GOOD})
    known = summary.Cohorts(found)
    by_hand = {}
    for arm in ("infonce", REFERENCE):
        by_hand[arm] = np.array(
            [
                next(r for r in each["records"] if r["arm"] == arm)["inconsistency"]
                for each in found
                if each["world"] == "base"
            ]
        )
    np.testing.assert_array_equal(known.of("base", "infonce", "inconsistency"), by_hand["infonce"])
    ratio = np.log(by_hand["infonce"] / by_hand[REFERENCE])
    verdict = summary.verdicts(known)["base", "infonce"]
    assert verdict.ratio == statistics.estimate(ratio)
    assert (verdict.symbol, verdict.sure) == ("+", True)
    line = summary.table(known).set_index(["world", "arm"]).loc[("base", "infonce")]
    assert line["inconsistency"] == pytest.approx(np.exp(np.log(by_hand["infonce"]).mean()))
    assert line["inconsistency_ratio_mean"] == pytest.approx(np.exp(ratio.mean()))
    assert line["cohorts"] == made_up.NUM_COHORTS


@pytest.mark.parametrize(
    ("ratio", "auroc", "symbol"),
    [
        ((-0.2, -0.1), (-0.009, 0.01), "+"),
        ((-0.2, -0.1), (-0.02, -0.001), "±"),
        ((-0.2, -0.1), (-0.02, 0.01), "(+)"),
        ((-0.1, 0.1), (0.001, 0.02), "a"),
        ((-0.1, 0.1), (-0.02, 0.01), "·"),
        ((-0.1, 0.1), (-0.02, -0.001), "−"),
        ((0.1, 0.2), (0.001, 0.02), "−"),
        ((np.nan, np.nan), (np.nan, np.nan), "·"),
    ],
)
def test_the_verdict_follows_from_the_intervals(
    ratio: tuple[float, float], auroc: tuple[float, float], symbol: str
) -> None:
    def interval(ends: tuple[float, float]) -> statistics.Estimate:
        return statistics.Estimate(
            mean=sum(ends) / 2, low=ends[0], high=ends[1], p=0.5, num_cohorts=9
        )

    assert summary.judge(interval(ratio), interval(auroc)) == symbol


def test_the_section_says_who_wins_and_who_does_not() -> None:
    effects = {
        ("base", "infonce"): GOOD,
        ("base", PRIMARY_ARM): {"inconsistency": -0.5, "auroc": -0.1},
        ("base", "coral"): {"inconsistency": 0.5},
        ("base", "centre"): {"seen_inconsistency": -1.0},
    }
    text = report.markdown(made_up.found(effects), ORIGIN)
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")
        for line in text.split("### Map")[1].split("### Numbers")[0].splitlines()
        if line.startswith("|")
    }
    assert [rows[arm][1] for arm in ("infonce", PRIMARY_ARM, "coral")] == [
        "**+**",
        "**±**",
        "**−**",
    ]
    assert rows["mean over scans"][1] == "0"
    assert set(rows) >= {arm.name for arm in ARMS} - {REFERENCE}
    assert all(len(row) == 1 + len(WORLDS) for row in rows.values())
    assert "**not shown**" in text
    trials = f"{len(WORLDS) * made_up.NUM_COHORTS * len(ARMS) * 2:,} trials in 88 minutes"
    assert trials in text
    assert "nan" not in text
    assert "base: `centre` 0.3" in text.split("- On seen scanners alone")[1].splitlines()[0]


def test_the_primary_contrast_is_shown_where_both_intervals_say_so() -> None:
    text = report.markdown(made_up.found({("base", PRIMARY_ARM): GOOD}), ORIGIN)
    assert "**shown**" in text


def test_nulls_of_arms_that_are_alike_are_honest() -> None:
    assert all(check.honest for check in nulls.checks(summary.Cohorts(made_up.found())))


@pytest.mark.parametrize(
    ("world", "arm", "effect", "where"),
    [
        ("no scanner effect", "infonce", {"scanner_ratio": -1.0}, "move less"),
        ("no scanner effect", "centre", {"unseen_scanner_auroc": 0.05}, "the unseen than"),
        ("shuffled labels", "erm", {"auroc": 0.05}, "one half on seen"),
        ("shuffled labels", "erm", {"unseen_scanner_auroc": -0.05}, "one half on the unseen"),
        ("base", "score, shuffled pairs", {"auroc": 0.05}, "higher AUROC on seen"),
    ],
)
def test_one_dishonest_arm_is_found(
    world: str, arm: str, effect: dict[str, float], where: str
) -> None:
    # 8 cohorts have 256 signs, too few for Holm over all checks: the p-value alone is looked at.
    checks = nulls.checks(summary.Cohorts(made_up.found({(world, arm): effect})))
    lowest = min(checks, key=lambda check: float(check.text.split("p = ")[1].split(",")[0]))
    assert where in lowest.name
    assert float(lowest.text.split("p = ")[1].split(",")[0]) < 0.01


def test_a_failed_arm_leaves_a_hole_that_is_told() -> None:
    found = made_up.found()
    record = next(r for r in found[0]["records"] if r["arm"] == "dann")
    record |= {"failure": "numeric: loss is nan at epoch 1"}
    record |= {name: None for name in record if name not in ("arm", "setting", "failure")}
    known = summary.Cohorts(found)
    assert known.failures == {"dann": 1}
    line = summary.table(known).set_index(["world", "arm"]).loc[("base", "dann")]
    assert line["cohorts"] == made_up.NUM_COHORTS - 1
    assert "**Training failed** for `dann` in 1 cohorts" in report.markdown(found, ORIGIN)


def test_the_section_replaces_itself_and_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Results\n\ntext\n")
    first = f"{report.BEGIN}\none\n{report.END}\n"
    report.put(first, page)
    page.write_text(page.read_text() + "\n## After\n")
    report.put(first.replace("one", "two"), page)
    assert (
        page.read_text() == "# Results\n\ntext\n\n" + first.replace("one", "two") + "\n## After\n"
    )
    page.write_text(report.BEGIN)
    with pytest.raises(ValueError, match="without"):
        report.put(first, page)


def test_wall_time_is_the_time_in_which_something_was_computed() -> None:
    spans = [("00:00:00", 120), ("00:01:00", 30), ("00:01:30", 60), ("00:10:00", 60)]
    found = [{"began": f"2026-11-24T{at}+00:00", "seconds": s} for at, s in spans]
    assert report.wall_minutes(found) == pytest.approx(3.5)


def test_an_incomplete_table_is_not_written_and_ends_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(__main__.frozen, "check", lambda _: None)
    page = tmp_path / "README.md"
    words = ["--out", str(tmp_path / "out"), "--page", str(page), "--minutes", "0"]
    done = CliRunner().invoke(__main__.main, words)
    assert (done.exit_code, page.exists()) == (1, False)
    expected = len(WORLDS) * len(settings.REPORTED_SEEDS)
    assert f"INCOMPLETE: {expected} of {expected} cohorts" in done.output


def test_settings_that_are_not_frozen_compute_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thawed(cohorts: object) -> None:
        raise __main__.frozen.ThawedError("settings.py differs from its commit")

    monkeypatch.setattr(__main__.frozen, "check", thawed)
    done = CliRunner().invoke(__main__.main, ["--out", str(tmp_path / "out")])
    assert (done.exit_code, (tmp_path / "out").exists()) == (1, False)
    assert "differs from its commit" in done.output


@pytest.mark.parametrize(("effect", "code"), [({}, 0), ({"auroc": 0.2}, 1)])
def test_the_exit_code_says_whether_the_nulls_are_honest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: dict[str, float], code: int
) -> None:
    everyone = {("shuffled labels", arm.name): effect for arm in ARMS}
    found = made_up.found(everyone)
    monkeypatch.setattr(settings, "REPORTED_SEEDS", tuple(range(made_up.NUM_COHORTS)))
    monkeypatch.setattr(work, "compute", lambda *_, **__: found)
    monkeypatch.setattr(nulls, "HONEST", 0.05 if not code else 0.5)
    page = tmp_path / "README.md"
    words = ["--out", str(tmp_path / "out"), "--page", str(page)]
    monkeypatch.setattr(
        __main__.frozen, "check",
        lambda _: __main__.frozen.Freeze(
            digest="d", commit="c", time=report.datetime(2026, 11, 24)
        ),
    )  # fmt: skip
    done = CliRunner().invoke(__main__.main, words)
    assert done.exit_code == code, done.output
    assert page.read_text().startswith(report.BEGIN)
    table = tmp_path / "bench" / "science.csv"
    assert len(table.read_text().splitlines()) == 1 + len(WORLDS) * len(ARMS)
