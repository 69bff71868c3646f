from statistics import fmean

from orchestrator import plan, rounds, spec, suggest
from tests.orchestrator.specs import read, small

SPACE = {"optim.lr": {"low": 1e-4, "high": 1, "log": True}}


def rows(folder, suggested=None, *, samples=5, **changes):
    search = {"kind": "optuna", "samples": samples, "batch": 2, "space": SPACE}
    arms = {"erm": {"views": "routine"}, "a": {"views": "all", "search": search}}
    folds = {"kind": "cohort", "train": ["dev"], "test": ["test"], "num_folds": 3}
    return spec.expand(read(folder, small(arms=arms, folds=folds, **changes)), suggested or {})


def make(found, *, without=(), failed=()):
    names = plan.make(found, dataset=None, lanes_max=8).trial_ids
    done = set(names) - set(without) - set(failed)
    return plan.make(found, dataset=None, done=done, failed=failed, lanes_max=8)


def reading(table):
    return lambda ids: {one: table[one] for one in ids}


def value_of(made):
    """The higher the rate, the better; folds and seeds differ."""
    return {
        item.id: item.config.optim.lr + item.config.fold + 10 * item.config.seed
        for item in made.trials
    }


def test_the_next_settings_come_when_all_trials_of_a_group_are_over(tmp_path):
    found = rows(tmp_path)
    made = make(found)
    grown = rounds.grow(made, {}, values=reading(value_of(made)))
    assert len(grown) == 2 and all(len(settings) == 2 for settings in grown.values())
    one = next(item.id for row, item in zip(found, made.row_trials, strict=True)
               if row.searched and row.encoder == "uni")  # fmt: skip
    held = rounds.grow(make(found, without=[one]), {}, values=reading(value_of(made)))
    assert list(held) == [row.searched.group for row in found
                          if row.searched and row.encoder == "virchow2"][:1]  # fmt: skip


def test_optuna_hears_the_mean_over_folds_and_seeds_and_higher_is_better(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(suggest, "settings", lambda _, told, __: heard.append(told) or [])
    for metric, sign in (("auroc", 1), ("loss", -1), ("inconsistency", -1)):
        made = make(rows(tmp_path, encoders=["uni"], stopping={"metric": metric}))
        assert rounds.grow(made, {}, values=reading(value_of(made))) == {}
        for setting, value in heard.pop():
            own = setting["optim.lr"]
            mean = fmean(own + fold + 10 * seed for fold in range(3) for seed in range(2))
            assert abs(value - sign * mean) < 1e-9


def test_a_setting_with_a_failed_or_undefined_trial_has_no_value(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(suggest, "settings", lambda _, told, __: heard.append(told) or [])
    found = rows(tmp_path, encoders=["uni"])
    names = [item.id for row, item in zip(found, make(found).row_trials, strict=True)
             if row.searched]  # fmt: skip
    made = make(found, failed=[names[0]])
    table = value_of(made) | {names[-1]: float("nan")}
    rounds.grow(made, {}, values=reading(table))
    assert [value for _, value in heard[0]] == [None, None]


def test_rounds_end_at_the_samples_and_keep_what_was_suggested(tmp_path):
    suggested, sizes = {}, []
    while True:
        made = make(rows(tmp_path, suggested, encoders=["uni"]))
        sizes.append(made.num_cells)
        grown = rounds.grow(made, suggested, values=reading(value_of(made)))
        if not grown:
            break
        for name, before in suggested.items():
            assert grown[name][: len(before)] == before
        suggested = grown
    assert sizes == [3, 5, 6]


def test_results_are_read_of_groups_that_grow_and_of_no_other(tmp_path):
    asked = []
    made = make(rows(tmp_path, samples=2))
    assert rounds.grow(made, {}, values=lambda ids: asked.append(ids) or {}) == {}
    assert asked == []
