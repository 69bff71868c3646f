from hypothesis import given
from hypothesis import strategies as st

from training import seeds

parts = st.lists(st.integers() | st.text(), max_size=4)


@given(parts, parts)
def test_equal_parts_and_only_those_give_equal_seeds(one, other):
    assert (seeds.derive(*one) == seeds.derive(*other)) == (one == other)


@given(parts)
def test_a_seed_fits_torch_and_repeats(one):
    assert 0 <= seeds.derive(*one) < 2**63
    assert seeds.generator(*one).integers(2**60) == seeds.generator(*one).integers(2**60)


def test_seeds_stay_what_they_are():
    assert seeds.derive(0, "initialisation") == 1971296624961745112
