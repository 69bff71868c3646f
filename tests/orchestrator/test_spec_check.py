import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import spec
from orchestrator.errors import SpecError
from tests.orchestrator.specs import SMALL, problems, read, small, write


def with_arm(**arm):
    return small(arms={"a": {"views": "all", **arm}})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seeds: 2", "sedes: 2", "6: sedes: unknown key; did you mean seeds?"),
        (
            "kind: gated_attention",
            "kind: gated",
            "4: head.kind: found 'gated'; expected one of mean,",
        ),
        (
            "head: {",
            "head: {hidden: 3, ",
            "4: head.hidden: unknown key; expected one of embed_dims",
        ),
        ("head: {", "head: {dropout: 1.5, ", "4: head.dropout: found 1.5; expected less than 1"),
        ("head: {", "head: {dropout: yes, ", "4: head.dropout: found 'yes'; expected a number"),
        ("head: {", "head: {dropout: true, ", "4: head.dropout: found true; expected a number"),
        (
            "head: {",
            "head: {dropout: '0.1', ",
            "4: head.dropout: found '0.1'; expected a number without quotes",
        ),
        ("head: {", "head: {embed_dims: [], ", "4: head.embed_dims: found []; expected at least 1"),
        ("num_folds: 3", "num_folds: 1", "5: folds.num_folds: found 1; expected at least 2"),
        (
            "num_folds: 3",
            "num_folds: 3.5",
            "5: folds.num_folds: found 3.5; expected a whole number",
        ),
        ("seeds: 2", "seeds: two", "6: seeds: found 'two'; expected a whole number"),
        ("seeds: 2", "seeds: 0", "6: seeds: found 0; expected at least 1"),
        ("seeds: 2", "seeds: [1, 1]", "6: seeds: found 1 twice; expected different values"),
        ("seeds: 2", "seeds: [-1]", "6: seeds[0]: found -1; expected at least 0"),
        (
            "seeds: 2",
            "optim: {lr: .inf}\nseeds: 2",
            "6: optim.lr: found inf; expected a finite number",
        ),
        ("seeds: 2", "optim: 3\nseeds: 2", "6: optim: found 3; expected a mapping"),
        ("seeds: 2", "optim:\nseeds: 2", "6: optim: found nothing; expected a mapping"),
        ("seeds: 2\n", "", "1: seeds: missing; expected n for the seeds"),
        ("[uni, virchow2]", "[uni, uni]", "3: encoders: found 'uni' twice; expected different"),
        ("[uni, virchow2]", "[../uni]", "3: encoders[0]: found '../uni'; expected text that"),
        ("[uni, virchow2]", "uni", "3: encoders: found 'uni'; expected a mapping"),
        ("[uni, virchow2]", "[]", "3: encoders: found []; expected at least 1"),
        (
            "[uni, virchow2]",
            "{uni: {optim: {lr: 0}}}",
            "3: encoders.uni.optim.lr: found 0; expected",
        ),
        (
            "task: {kind: binary}",
            "task: {classes: [0, 1]}",
            "2: task.classes[0]: found 0; expected text (wr",
        ),
        ("data: data", "data: $NOT_SET_9/x", "1: data: found '$NOT_SET_9/x'; expected environment"),
        ("data: data", "data: ~nobody-9", "1: data: found '~nobody-9'; expected the path of"),
        (
            "data: data",
            "data: {simulat: {}}",
            "1: data.simulat: unknown key; did you mean simulate?",
        ),
        ("data: data", "data: ~nobody-9", "1: data: found '~nobody-9'; expected the path of"),
        (
            "data: data",
            "data: {simulate: {paired: 1}}",
            "1: data.simulate.paired: unknown key; did you mean p",
        ),
        ("erm: {views: routine}", "erm: {}", "8: arms.erm.views: missing; expected"),
        ("erm: {views: routine}", "erm:", "8: arms.erm: found nothing; expected a mapping"),
        (
            "erm: {views: routine}",
            "score: {views: all}",
            "9: arms.score: given twice, first on line 8",
        ),
        (
            "erm: {views: routine}",
            "'a b': {views: all}",
            "8: arms.a b: found 'a b'; expected text that",
        ),
        (
            "    views: all",
            "    views: al",
            "10: arms.score.views: found 'al'; expected one of routine, all",
        ),
        (
            "    views: all",
            "    views: routine",
            "9: arms.score: losses between scans need views: all",
        ),
        (
            "{kind: score}",
            "{kind: scor}",
            "11: arms.score.losses.score.kind: found 'scor'; expected one of",
        ),
        (
            "{kind: score}",
            "{weight: 1}",
            "11: arms.score.losses.score: kind is missing; expected one of infonce",
        ),
        (
            "{kind: score}",
            "{kind: score, weight: -1}",
            "11: arms.score.losses.score.weight: found -1",
        ),
        (
            "losses.score.weight",
            "losses.scor.weight",
            "12: arms.score.grid.losses.scor.weight: unknown key; did",
        ),
        (
            "losses.score.weight",
            "optim.lrr",
            "12: arms.score.grid.optim.lrr: unknown key; did you mean optim.lr",
        ),
        (
            "losses.score.weight",
            "seed",
            "12: arms.score.grid.seed: not for an axis; expected under seeds",
        ),
        (
            "losses.score.weight",
            "encoder",
            "12: arms.score.grid.encoder: not for an axis; expected under enc",
        ),
        (
            "[0.1, 1]",
            "[0.1, -1]",
            "12: arms.score.grid.losses.score.weight[1]: found -1; expected at least 0",
        ),
        (
            "[0.1, 1]",
            "[0.1, 0.1]",
            "12: arms.score.grid.losses.score.weight: found 0.1 twice; expected",
        ),
        (
            "[0.1, 1]",
            "[]",
            "12: arms.score.grid.losses.score.weight: found []; expected at least 1",
        ),
        ("[0.1, 1]", "0.1", "12: arms.score.grid.losses.score.weight: found 0.1; expected a list"),
    ],
)
def test_a_problem_is_named_with_its_line_key_finding_and_expectation(tmp_path, old, new, expected):
    assert SMALL.count(old) >= 1
    found = problems(tmp_path, SMALL.replace(old, new, 1))
    assert len(found) == 1 or "unknown" in old + expected or "classes" in expected
    assert any(line.startswith(f"small.yaml:{expected}") for line in found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arms": {}}, "arms: found a mapping; expected at least 1"),
        ({"arms": None}, "arms: found nothing; expected a mapping"),
        ({"head": {"embed_dims": [8]}}, "head: kind is missing; expected one of mean, max"),
        (
            {"head": {"kind": "mean", "attention_dim": 3}},
            "head.attention_dim: unknown key for this",
        ),
        (
            {"zip": [{"optim.lr": [1, 2], "draw_seed": [1]}]},
            "zip[0]: found lists of 1 and 2 values",
        ),
        ({"zip": [{"optim.lr": [1, 1], "draw_seed": [2, 2]}]}, "zip[0]: found [1, 2] twice"),
        ({"zip": [{}]}, "zip[0]: found a mapping; expected at least 1"),
        (
            {"zip": [{"optim.lr": [1]}], "grid": {"optim.lr": [1]}},
            "zip[0].optim.lr: an axis already; expected once, in grid or in zip",
        ),
        ({"grid": {"views": ["all"]}}, "grid.views: every arm sets it itself; expected an arm"),
        ({"grid": {"losses.x.weight": [1]}}, "grid.losses.x.weight: unknown key; did you mean"),
        (
            {"grid": {"head.kind": ["maen"]}},
            "grid.head.kind[0]: found 'maen'; expected one of mean",
        ),
        ({"grid": {"head.embed_dims": [[0]]}}, "grid.head.embed_dims[0][0]: found 0; expected at"),
        ({"exclude": [{"arms": "erm"}]}, "exclude[0].arms: unknown key; did you mean arm?"),
        ({"exclude": [{"arm": ["erm", "score"]}]}, "exclude: found every cell excluded"),
        ({"stopping": {"validation_share": 0}}, "stopping: validation_share is 0, so epoch must"),
        ({"seeds": 60_000}, "arms: found 6 cells × 60,000 seeds; expected at most 200,000 trials"),
        ({"seeds": 20_000}, "arms: found 360,000 trials; expected at most 200,000"),
    ],
)
def test_a_problem_between_keys_is_named_at_the_key_to_change(tmp_path, changes, expected):
    found = problems(tmp_path, small(**changes))
    assert len(found) == 1
    assert found[0].split(": ", 1)[1].startswith(expected)


def test_an_arm_may_be_wrong_in_name_and_content_at_once(tmp_path):
    found = problems(tmp_path, small(arms={"a b": {}, "c": {"views": "all"}}))
    assert len(found) == 2


def test_a_grid_of_a_million_cells_is_refused_at_once(tmp_path):
    grid = {key: list(range(1, 1001)) for key in ("optim.lr", "optim.epochs", "draw_seed")}
    found = problems(tmp_path, small(grid=grid))
    assert len(found) == 1 and "expected at most 200,000 trials" in found[0]


def test_a_kind_given_with_foreign_settings_by_the_same_arm_is_an_error(tmp_path):
    found = problems(tmp_path, with_arm(head={"kind": "mean", "attention_dim": 3}))
    assert found[0].endswith(
        "arms.a.head.attention_dim: unknown key for this kind of head; "
        "expected another kind, or no attention_dim"
    )


def test_two_axes_that_do_not_fit_together_are_named_at_the_value(tmp_path):
    grid = {"head.kind": ["attention", "mean"], "head.attention_dim": [8, 16]}
    found = problems(tmp_path, with_arm(grid=grid))
    assert [line.split(": ")[1] for line in found] == [
        "arms.a.grid.head.attention_dim[0]",
        "arms.a.grid.head.attention_dim[1]",
    ]


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path):
    text = (
        "data: data\ntask: {kind: binari}\nencoders: [uni]\nhead: {kind: mean, dropout: 2}\n"
        "folds: {kind: stratified}\nseeds: none\nseeds: 3\nextra: 1\n"
        "arms:\n  a: {}\n  b: {views: all, grid: {optim.lrr: [1]}}\n  c: {views: al}\n"
        "grid: {optim.lr: [0, 1]}\n"
    )
    found = problems(tmp_path, text)
    assert [":".join(line.split(":")[1:3]) for line in found] == [
        "2: task.kind",
        "4: head.dropout",
        "6: seeds",
        "7: seeds",
        "8: extra",
        "10: arms.a.views",
        "11: arms.b.grid.optim.lrr",
        "12: arms.c.views",
        "13: grid.optim.lr[0]",
    ]


def test_an_exclusion_that_fits_nothing_and_an_arm_without_cells_are_warnings(tmp_path):
    found = read(
        tmp_path,
        SMALL + "exclude:\n  - {arm: erm}\n  - {encoder: uni, losses.score.weight: 7}\n",
    )
    assert [line.replace(f"{tmp_path}/", "") for line in found.warnings] == [
        "small.yaml:15: exclude[1]: fits no cell",
        "small.yaml:8: arms.erm: all its cells are excluded",
    ]


def test_the_error_gives_a_hint(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, small(seeds="x"))
    assert caught.value.hint == "sweeps/README.md describes every key"


junk = st.sampled_from(
    [None, 0, -1, 1e9, "x", "", True, [], [1], {}, {"kind": "x"}, {"a": {"b": 1}}]
)


def _places(tree, place=()):
    yield place
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from _places(value, (*place, key))


RICH = small(
    encoders={"uni": {"optim": {"lr": 0.1}}, "virchow2": None},
    grid={"head.kind": ["mean", "max"]},
    zip=[{"draw_seed": [1, 2], "optim.clip": [1, 2]}],
    exclude=[{"arm": "erm", "head.kind": ["mean"]}],
    data={"simulate": {"shift": {"offset": 1}}},
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_put_anywhere_into_a_spec_ends_in_a_spec_or_in_its_problems(tmp_path, data):
    tree = copy.deepcopy(RICH)
    for _ in range(data.draw(st.integers(1, 3))):
        *outer, last = data.draw(st.sampled_from([p for p in _places(tree) if p]))
        inner = tree
        for step in outer:
            inner = inner[step]
        value = copy.deepcopy(data.draw(junk))
        if isinstance(inner, dict) and data.draw(st.booleans()):
            inner.pop(last)
            inner[data.draw(st.sampled_from(["x", "kind", "views", "optim"]))] = value
        else:
            inner[last] = value
    path = write(tmp_path, tree)
    try:
        rows = spec.expand(spec.read(path))
    except SpecError as error:
        for line in error.message.splitlines():
            name, number, _ = line.split(":", 2)
            assert name == str(path)
            assert 1 <= int(number) <= path.read_text().count("\n")
    else:
        assert rows
