import numpy as np
import pytest

from training.metrics.information import Averaged, Information, information, selectivity


def scans(scanner_shift: float, label_shift: float, *, seed: int = 0, num_slides: int = 60):
    """Paired scans: (embeddings, scanner, label, slide), one slide a patient, two scanners."""
    generator = np.random.default_rng(seed)
    slide, scanner = np.repeat(np.arange(num_slides), 2), np.tile([0, 1], num_slides)
    label = slide % 2
    embeddings = generator.normal(size=(num_slides, 6))[slide]
    embeddings = embeddings + 0.2 * generator.normal(size=(2 * num_slides, 6))
    embeddings[:, 0] += scanner_shift * scanner
    embeddings[:, 1] += label_shift * label
    return embeddings, scanner, label, slide


def of_scanner(embeddings, scanner, slide, *, num_draws: int = 200, seed: int = 0) -> Information:
    generator = np.random.default_rng(seed)
    return information(
        embeddings, scanner, slide, generator=generator, block=slide, num_draws=num_draws
    )


def of_label(embeddings, label, slide, *, num_draws: int = 200) -> Information:
    generator = np.random.default_rng(0)
    return information(embeddings, label, slide, generator=generator, num_draws=num_draws)


def test_what_is_plain_to_see_is_all_of_the_entropy():
    embeddings, scanner, label, slide = scans(5.0, 12.0)
    for found in (of_scanner(embeddings, scanner, slide), of_label(embeddings, label, slide)):
        assert found.entropy == pytest.approx(np.log(2))
        assert 0.85 * np.log(2) < found.bound <= np.log(2)
        assert len(found.null) == 200 and found.p_value == pytest.approx(1 / 201)
        assert found.above_null


def test_the_bound_is_near_the_truth_for_two_gaussians():
    generator = np.random.default_rng(0)
    target = np.tile([0, 1], 300)
    embeddings = generator.normal(size=(600, 3))
    embeddings[:, 0] += 1.5 * target
    found = information(
        embeddings, target, np.arange(600), generator=np.random.default_rng(0), num_draws=0
    )
    x = generator.normal(size=400_000) + 1.5 * (side := generator.integers(0, 2, 400_000))
    odds = 1.5 * (x - 0.75)
    truth = np.log(2) - np.logaddexp(0, np.where(side == 1, -odds, odds)).mean()
    assert found.bound == pytest.approx(truth, abs=0.04)
    assert np.isnan(found.p_value) and not found.above_null


def test_the_null_is_honest():
    """Without a scanner effect the p-value is at most .05 in about one world of twenty."""
    found = []
    for seed in range(40):
        embeddings, scanner, _, slide = scans(0.0, 0.0, seed=seed, num_slides=24)
        found.append(of_scanner(embeddings, scanner, slide, num_draws=39, seed=seed).p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.15
    assert 0.3 < np.mean(found) < 0.75


def test_the_null_of_a_label_is_what_the_bound_of_the_permuted_label_would_be():
    """Folds and entropy treat the label as they treat its permutations, or no p-value holds."""
    embeddings, _, label, slide = scans(0.0, 2.0, num_slides=24)
    uneven = np.sort(np.concatenate([np.arange(0, 48, 2), np.arange(1, 16, 2)]))
    embeddings, label, slide = embeddings[uneven], label[uneven], slide[uneven]
    found = information(
        embeddings, label, slide, generator=np.random.default_rng(0), num_draws=3
    )  # fmt: skip
    generator = np.random.default_rng(0)
    _, first, number = np.unique(slide, return_index=True, return_inverse=True)
    order = generator.random((3, len(first))).argsort(1)
    permuted = label[first][order][:, number]
    for target, bound in zip(permuted, found.null, strict=True):
        again = information(
            embeddings, target, slide, generator=np.random.default_rng(0), num_draws=3
        )
        assert again.bound == pytest.approx(bound)


def test_permutations_stay_within_slides():
    """The first scanner's slides have a mark: within slides nothing can be learned from it."""
    generator = np.random.default_rng(0)
    slide = np.concatenate([np.repeat(np.arange(20), 2), np.arange(20, 60)])
    scanner = np.concatenate([np.tile([0, 1], 20), np.ones(40, np.int64)])
    embeddings = generator.normal(size=(80, 3))
    embeddings[40:, 0] += 20
    within = information(embeddings, scanner, slide, generator=generator, block=slide)
    assert within.bound > 0.1 and within.null.mean() > 0.1 and not within.above_null


def test_without_two_targets_in_a_block_there_is_no_null():
    embeddings, scanner, label, slide = scans(3.0, 3.0)
    found = information(embeddings, label, slide, generator=np.random.default_rng(0), block=slide)
    assert found.reason == "no block has two targets" and not len(found.null)
    assert np.isfinite(found.bound) and np.isnan(found.p_value) and not found.above_null
    other = information(embeddings, scanner, slide, generator=np.random.default_rng(0))
    assert "several targets" in other.reason
    one = of_label(embeddings, label * 0, slide)
    assert one.reason == "there is one class only" and not one.above_null


def test_the_same_generator_gives_the_same_numbers():
    embeddings, scanner, _, slide = scans(1.0, 1.0)
    one, other = (of_scanner(embeddings, scanner, slide, num_draws=20) for _ in range(2))
    assert one.bound == other.bound and np.array_equal(one.null, other.null)


def worlds(*shifts: tuple[float, float]):
    """(scanner information, label information) of each world."""
    found = [scans(*each) for each in shifts]
    return (
        tuple(of_scanner(each[0], each[1], each[3], num_draws=40) for each in found),
        tuple(of_label(each[0], each[2], each[3], num_draws=40) for each in found),
    )


@pytest.mark.slow
def test_selectivity_tells_the_scanner_from_the_label():
    generator = np.random.default_rng(0)
    scanner, label = worlds((5.0, 12.0), (0.0, 12.0))
    kept = selectivity(scanner=scanner, label=label, generator=generator)
    assert kept.value > 0.9 and kept.low > 0.7 and not kept.reason
    assert kept.low <= kept.value <= kept.high
    scanner, label = worlds((5.0, 12.0), (0.0, 0.0))
    both = selectivity(scanner=scanner, label=label, generator=generator)
    assert abs(both.value) < 0.2 and both.low < 0.1
    scanner, label = worlds((5.0, 12.0), (5.0, 0.0))
    wrong = selectivity(scanner=scanner, label=label, generator=generator)
    assert wrong.value < -0.8 and wrong.high < 0


def test_selectivity_of_nothing_changed_is_zero():
    scanner, label = worlds((5.0, 12.0), (5.0, 12.0))
    found = selectivity(scanner=scanner, label=label, generator=np.random.default_rng(0))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_selectivity_by_hand():
    def told(log_chance: float) -> Information:
        target = np.tile([0, 1], 10)
        return Information(
            target=target,
            patient=np.repeat(np.arange(10), 2),
            log_chance=np.full(20, log_chance),
            null=np.full(99, -0.1),
        )

    scanner = told(-0.1), told(-0.5)
    label = told(-0.2), told(-0.3)
    h = np.log(2)
    expected = (1 - (h - 0.5) / (h - 0.1)) - (1 - (h - 0.3) / (h - 0.2))
    found = selectivity(scanner=scanner, label=label, generator=np.random.default_rng(0))
    assert found.value == pytest.approx(expected)
    assert found.low == pytest.approx(expected) == found.high


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shifts"), [("label", (5.0, 0.0)), ("scanner", (0.0, 12.0))])
def test_selectivity_is_refused_where_there_was_nothing_to_lose(name, shifts):
    scanner, label = worlds(shifts, (0.0, 12.0))
    found = selectivity(scanner=scanner, label=label, generator=np.random.default_rng(0))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.reason.startswith(f"the {name}'s information before is not above its null")


def told(seed: int, num: int = 24, *, strength: float, shift: int = 0) -> Information:
    """Information on a scanner of paired scans, embedded with some strength."""
    draw = np.random.default_rng(seed)
    patient = np.repeat(np.arange(num), 2)
    target = np.tile([0, 1], num)
    slides = draw.normal(size=(num, 4))[patient]
    embeddings = slides + strength * target[:, None] * np.eye(4)[0] + draw.normal(size=(2 * num, 4))
    return information(
        embeddings, target, patient + shift, generator=np.random.default_rng(7), block=patient,
        num_draws=20,
    )  # fmt: skip


def test_an_average_is_over_folds_of_the_mean_over_seeds():
    a, b, c = (told(seed, strength=2.0, shift=100 * (seed > 1)) for seed in range(3))
    found = Averaged(folds=((a, b), (c,)))
    assert found.bound == pytest.approx(((a.bound + b.bound) / 2 + c.bound) / 2)
    assert found.entropy == pytest.approx(np.log(2))
    np.testing.assert_allclose(found.null, ((a.null + b.null) / 2 + c.null) / 2)
    assert found.p_value == (1 + (found.null >= found.bound).sum()) / 21
    assert found.above_null and not found.reason


def test_an_average_of_one_is_that_one_also_in_its_selectivity():
    before, after = told(0, strength=3.0), told(1, strength=1.5)
    label = told(2, strength=2.0), told(3, strength=2.0)
    plain = selectivity(scanner=(before, after), label=label, generator=np.random.default_rng(0))

    def alone(one: Information) -> Averaged:
        return Averaged(folds=((one,),))

    averaged = selectivity(
        scanner=(alone(before), alone(after)),
        label=(alone(label[0]), alone(label[1])),
        generator=np.random.default_rng(0),
    )
    assert averaged == plain and np.isfinite(plain.low)


def test_the_selectivity_of_averages_is_that_of_the_mean_bounds():
    seeds = range(4)
    scanner = [(told(s, strength=3.0, shift=100 * s), told(9 + s, strength=1.0, shift=100 * s))
               for s in seeds]  # fmt: skip
    label = [(told(20 + s, strength=2.0, shift=100 * s), told(30 + s, strength=2.0, shift=100 * s))
             for s in seeds]  # fmt: skip

    def over(pairs: list[tuple[Information, Information]], side: int) -> Averaged:
        return Averaged(folds=tuple((pair[side],) for pair in pairs))

    found = selectivity(
        scanner=(over(scanner, 0), over(scanner, 1)),
        label=(over(label, 0), over(label, 1)),
        generator=np.random.default_rng(0),
    )
    means = [
        np.mean([pair[side].bound for pair in pairs]) for pairs in (scanner, label)
        for side in (0, 1)
    ]  # fmt: skip
    assert found.value == pytest.approx((1 - means[1] / means[0]) - (1 - means[3] / means[2]))
    assert found.low < found.value < found.high


def test_one_bound_without_a_null_leaves_the_average_without():
    good = told(0, strength=2.0)
    bad = information(
        np.ones((4, 2)), np.zeros(4, np.int64), np.arange(4), generator=np.random.default_rng(0)
    )
    found = Averaged(folds=((good,), (bad,)))
    assert found.reason == bad.reason != "" and not len(found.null) and not found.above_null
