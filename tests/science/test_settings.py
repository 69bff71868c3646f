import pytest

from tests.science import cohort
from tests.science.settings import (
    ARMS,
    DEVELOPMENT_SEEDS,
    PRIMARY_ARM,
    PRIMARY_WORLD,
    REFERENCE,
    REPORTED_SEEDS,
    SHUFFLED_PAIRS,
    SIMULATION,
    TRIED,
    TUNING_SEEDS,
    WORLDS,
    Arm,
    World,
)
from training.config import lane_key


def test_development_and_reported_seeds_are_disjoint_and_enough() -> None:
    assert not {*DEVELOPMENT_SEEDS} & {*REPORTED_SEEDS}
    assert {*TUNING_SEEDS} <= {*DEVELOPMENT_SEEDS}
    assert len(set(REPORTED_SEEDS)) == len(REPORTED_SEEDS) >= 20


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_setting_of_an_arm_is_a_trial_and_all_arms_have_as_many(arm: Arm) -> None:
    assert len(arm.tried) == (0 if arm.copies else TRIED)
    assert arm.copies or 0 <= arm.chosen < TRIED
    made = [cohort.trials(WORLDS[0], arm, 1, setting=number) for number in range(len(arm.tried))]
    assert len({str(each) for each in made}) == len(arm.tried)
    for world in WORLDS:
        for trial in cohort.trials(world, arm, 1, setting=arm.chosen):
            assert trial.shuffle_labels == (world.name == "shuffled labels")
            assert trial.draw_seed == 1


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_world_differs_from_the_base_in_one_thing(world: World) -> None:
    base = cohort.simulation(WORLDS[0], 1, augmented=False).model_dump()
    mine = cohort.simulation(world, 1, augmented=False).model_dump()
    differing = [name for name in base if base[name] != mine[name]]
    assert len(differing) + len(world.change) == (0 if world.name == "base" else 1)


def test_the_worlds_are_those_that_were_asked_for() -> None:
    made = {w.name: cohort.simulation(w, 1, augmented=False) for w in WORLDS}
    assert {each.paired_share for each in made.values()} == {0.05, 0.2, 1.0}
    assert {each.confounding for each in made.values()} == {0, 0.8, 1.0}
    alone = [name for name in ("offset", "mixing", "nonlinear", "noise") if f"shift {name}" in made]
    assert len(alone) == 4
    strength = sum(SIMULATION["shift"][name] ** 2 for name in alone)
    for name in alone:
        shift = made[f"shift {name}"].shift
        assert getattr(shift, name) ** 2 == pytest.approx(strength, rel=0.01)
        assert all(getattr(shift, other) == 0 for other in alone if other != name)


def test_every_control_is_an_arm() -> None:
    trials = {arm.name: cohort.trials(WORLDS[0], arm, 1, setting=arm.chosen)[0] for arm in ARMS}
    assert {trial.pairs for trial in trials.values()} == {
        "scans", "shuffled", "same_scan", "augmented",
    }  # fmt: skip
    assert any(trial.test_time == "mean_over_scans" for trial in trials.values())
    assert trials["erm"].views == "routine"
    reference = trials[REFERENCE]
    assert (reference.views, reference.losses, reference.input.kind) == ("all", (), "none")
    for name in ("dropout", "weight_decay", "noise", "label_smoothing"):
        assert trials[name].losses == () and trials[name] != reference
    for loss in ("infonce", "score"):
        controls = [arm.name for arm in ARMS if arm.copies == loss]
        assert len(controls) == 3
        for name in controls:
            assert trials[name].losses == trials[loss].losses


def test_the_contrast_and_the_nulls_name_arms_and_worlds() -> None:
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert {PRIMARY_ARM, REFERENCE, *SHUFFLED_PAIRS} <= {*names}
    assert WORLDS[0].name == PRIMARY_WORLD
    assert [world.name for world in WORLDS if world.null] == [
        "no scanner effect", "shuffled labels",
    ]  # fmt: skip


def test_initialisations_share_a_call() -> None:
    for arm in ARMS:
        pair = cohort.trials(WORLDS[0], arm, 1, setting=arm.chosen)
        assert len({lane_key(trial) for trial in pair}) == 1 < len({trial.seed for trial in pair})
