from itertools import groupby
from math import prod

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import spec
from tests.orchestrator.specs import read, small

AXES = {
    "optim.lr": [1e-4, 1e-3, 1e-2],
    "optim.epochs": [1, 2, 3],
    "head.kind": ["mean", "max", "attention"],
    "head.embed_dims": [[8], [16, 8], [32]],
    "draw_seed": [1, 2, 3],
    "sampling.tiles_per_bag": [None, 16, 32],
    "stopping.patience": [1, 2, None],
}


def rows(folder, **changes):
    return spec.expand(read(folder, small(**changes)))


def cells(folder, **changes):
    """Return the first row of each cell."""
    found = rows(folder, **changes)
    return [next(group) for _, group in groupby(found, key=lambda row: row.cell)]


def one_arm(**arm):
    return {"encoders": ["uni"], "arms": {"a": {"views": "all", **arm}}}


def test_rows_go_by_encoder_arm_axes_fold_and_seed_as_written(tmp_path):
    found = rows(tmp_path)
    assert len(found) == 2 * 3 * 3 * 2
    assert [(r.cell, r.encoder, r.arm, r.fold, r.seed) for r in found[:8]] == [
        (0, "uni", "erm", 0, 0),
        (0, "uni", "erm", 0, 1),
        (0, "uni", "erm", 1, 0),
        (0, "uni", "erm", 1, 1),
        (0, "uni", "erm", 2, 0),
        (0, "uni", "erm", 2, 1),
        (1, "uni", "score", 0, 0),
        (1, "uni", "score", 0, 1),
    ]
    assert all((r.fold, r.seed) == (r.config.fold, r.config.seed) for r in found)
    assert all(r.encoder == r.config.encoder for r in found)


def test_every_row_has_every_axis_and_none_where_it_does_not_apply(tmp_path):
    found = cells(tmp_path)
    key = "losses.score.weight"
    assert [r.axes for r in found[:3]] == [{key: None}, {key: 0.1}, {key: 1.0}]
    assert [r.config.losses[0].weight for r in found[1:3]] == [0.1, 1.0]


def test_an_axis_shows_the_value_of_arms_that_do_not_vary_it(tmp_path):
    arms = {"a": {"views": "all", "grid": {"optim.lr": [0.1, 0.2]}}, "b": {"views": "all"}}
    found = cells(tmp_path, encoders=["uni"], arms=arms)
    assert [(r.arm, r.axes["optim.lr"]) for r in found] == [("a", 0.1), ("a", 0.2), ("b", 3e-4)]


def test_lists_among_axis_values_are_written_as_json(tmp_path):
    found = cells(tmp_path, **one_arm(grid={"head.embed_dims": [[8], [16, 8]]}))
    assert [r.axes["head.embed_dims"] for r in found] == ["[8]", "[16, 8]"]
    assert [r.config.head.embed_dims for r in found] == [(8,), (16, 8)]


def test_later_layers_win(tmp_path):
    found = cells(
        tmp_path,
        optim={"lr": 0.1, "epochs": 1, "clip": 1, "weight_decay": 1},
        encoders={"uni": {"optim": {"epochs": 2, "clip": 2, "weight_decay": 2}}},
        arms={
            "a": {
                "views": "all",
                "optim": {"clip": 3, "weight_decay": 3},
                "grid": {"optim.weight_decay": [4]},
            }
        },
    )
    optim = found[0].config.optim
    assert (optim.lr, optim.epochs, optim.clip, optim.weight_decay) == (0.1, 2, 3, 4)


def test_the_grid_of_the_spec_does_not_vary_what_an_arm_or_an_encoder_sets(tmp_path):
    found = cells(
        tmp_path,
        encoders={"uni": {}, "virchow2": {"optim": {"lr": 0.5}}},
        arms={"a": {"views": "all"}, "b": {"views": "all", "optim": {"lr": 0.9}}},
        grid={"optim.lr": [0.1, 0.2]},
    )
    assert [(r.encoder, r.arm, r.config.optim.lr) for r in found] == [
        ("uni", "a", 0.1),
        ("uni", "a", 0.2),
        ("uni", "b", 0.9),
        ("virchow2", "a", 0.5),
        ("virchow2", "b", 0.9),
    ]


def test_the_grid_of_the_spec_varies_a_loss_in_the_arms_that_have_it(tmp_path):
    arms = {
        "erm": {"views": "routine"},
        "x": {"views": "all", "losses": {"l": {"kind": "score"}}},
        "y": {"views": "all", "losses": {"l": {"kind": "infonce"}, "m": {"kind": "score"}}},
    }
    found = cells(tmp_path, encoders=["uni"], arms=arms, grid={"losses.l.weight": [1, 2]})
    assert [(r.arm, r.axes["losses.l.weight"]) for r in found] == [
        ("erm", None),
        ("x", 1.0),
        ("x", 2.0),
        ("y", 1.0),
        ("y", 2.0),
    ]


def test_a_zip_of_the_spec_that_an_arm_half_fixes_makes_no_cell_twice(tmp_path):
    arms = {"a": {"views": "all", "draw_seed": 9}}
    zips = [{"optim.lr": [0.1, 0.1, 0.2], "draw_seed": [1, 2, 3]}]
    found = cells(tmp_path, encoders=["uni"], arms=arms | {"b": {"views": "all"}}, zip=zips)
    assert [(r.arm, r.config.optim.lr, r.config.draw_seed) for r in found] == [
        ("a", 0.1, 9),
        ("a", 0.2, 9),
        ("b", 0.1, 1),
        ("b", 0.1, 2),
        ("b", 0.2, 3),
    ]


def test_zips_advance_together_and_cross_with_the_grid(tmp_path):
    found = cells(
        tmp_path,
        **one_arm(
            grid={"draw_seed": [1, 2]},
            zip=[{"optim.lr": [0.1, 0.2], "optim.epochs": [5, 6]}],
        ),
    )
    assert [(r.config.draw_seed, r.config.optim.lr, r.config.optim.epochs) for r in found] == [
        (1, 0.1, 5),
        (1, 0.2, 6),
        (2, 0.1, 5),
        (2, 0.2, 6),
    ]


def test_a_grid_over_kinds_drops_the_settings_of_the_base_that_a_kind_lacks(tmp_path):
    head = {"kind": "attention", "attention_dim": 7, "dropout": 0.5}
    found = cells(tmp_path, head=head, **one_arm(grid={"head.kind": ["attention", "mean"]}))
    assert found[0].config.head.model_dump()["attention_dim"] == 7
    assert found[1].config.head.kind == "mean"
    assert found[1].config.head.dropout == 0.5


def test_an_arm_may_bring_other_folds(tmp_path):
    arm = {"folds": {"kind": "given", "num_folds": 4, "repetitions": 2}}
    found = rows(
        tmp_path, folds={"kind": "stratified", "num_folds": 3, "seed": 5}, **one_arm(**arm)
    )
    assert [r.fold for r in found[::2]] == list(range(8))


def test_losses_are_ordered_by_kind_and_content_not_by_name(tmp_path):
    one = {"z": {"kind": "infonce", "weight": 1}, "a": {"kind": "score"}}
    two = {"b": {"kind": "score"}, "c": {"kind": "infonce", "weight": 1.0}}
    arms = {"one": {"views": "all", "losses": one}, "two": {"views": "all", "losses": two}}
    found = cells(tmp_path, encoders=["uni"], arms=arms)
    assert found[0].config == found[1].config
    assert [loss.kind for loss in found[0].config.losses] == ["infonce", "score"]


def test_exclusions_drop_the_cells_that_fit_all_of_their_keys(tmp_path):
    found = cells(
        tmp_path,
        exclude=[
            {"encoder": "uni", "losses.score.weight": [0.1, 7]},
            {"encoder": "virchow2", "arm": ["erm"]},
        ],
    )
    assert [(r.cell, r.encoder, r.arm, r.axes["losses.score.weight"]) for r in found] == [
        (0, "uni", "erm", None),
        (1, "uni", "score", 1.0),
        (2, "virchow2", "score", 0.1),
        (3, "virchow2", "score", 1.0),
    ]


def test_exclusions_see_defaults_lists_and_nothing(tmp_path):
    grid = {"head.embed_dims": [[8], [16]], "sampling.tiles_per_bag": [None, 4]}
    found = cells(
        tmp_path,
        **one_arm(grid=grid),
        exclude=[{"head.embed_dims": [[8]], "optim.lr": 3e-4, "sampling.tiles_per_bag": None}],
    )
    assert [tuple(r.axes.values()) for r in found] == [("[8]", 4), ("[16]", None), ("[16]", 4)]


def test_combinations_that_make_no_sense_may_be_excluded(tmp_path):
    grid = {"head.kind": ["attention", "mean"], "head.attention_dim": [8, 16]}
    exclude = [{"head.kind": "mean", "head.attention_dim": [8, 16]}]
    found = cells(tmp_path, **one_arm(grid=grid), exclude=exclude)
    assert [r.config.head.kind for r in found] == ["attention", "attention"]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    outer=st.lists(st.sampled_from(list(AXES)), max_size=2, unique=True),
    inner=st.lists(st.sampled_from(list(AXES)), max_size=2, unique=True),
    sizes=st.fixed_dictionaries({key: st.integers(1, 3) for key in AXES}),
    seeds=st.one_of(
        st.integers(1, 3), st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)
    ),
    num_folds=st.integers(2, 4),
)
def test_an_expansion_is_the_product_in_order_without_repetitions(
    tmp_path, outer, inner, sizes, seeds, num_folds
):
    def values(keys):
        return {key: AXES[key][: sizes[key]] for key in keys}

    changes = {
        "grid": values(outer),
        "arms": {"a": {"views": "routine"}, "b": {"views": "all", "grid": values(inner)}},
        "seeds": seeds,
        "folds": {"kind": "stratified", "num_folds": num_folds},
    }
    found = rows(tmp_path, **changes)
    first = prod(sizes[key] for key in outer)
    second = prod(sizes[key] for key in {*outer, *inner})
    num_seeds = seeds if isinstance(seeds, int) else len(seeds)
    assert len(found) == 2 * (first + second) * num_folds * num_seeds
    assert len({(r.cell, r.fold, r.seed) for r in found}) == len(found)
    assert len({(r.encoder, r.arm, *r.axes.values(), r.fold, r.seed) for r in found}) == len(found)
    assert [r.cell for r in found] == sorted(r.cell for r in found)
    assert len({r.config.model_dump_json() for r in found if r.arm == "b"}) == len(
        [r for r in found if r.arm == "b"]
    )
    assert rows(tmp_path, **changes) == found
