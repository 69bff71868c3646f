"""The lane key against its first form, which wrote the whole configuration anew."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from tests.training import small
from training.config import Optim, TrialConfig, lane_key
from training.config_lanes import loss_key, loss_key_of


def plain(config: TrialConfig) -> str:
    shared = config.model_dump(mode="json", exclude={"seed", "test_time", "losses"})
    for name in ("lr", "weight_decay", "clip"):
        del shared["optim"][name]
    text = json.dumps(shared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@given(
    encoder=st.text(min_size=1),
    seed=st.integers(),
    scale=st.floats(0.1, 10),
    lr=st.floats(1e-6, 1),
    epochs=st.integers(1, 99),
    unseen=st.lists(st.text(min_size=1), unique=True),
    shuffle=st.booleans(),
)
def test_it_is_the_hash_of_what_lanes_share(encoder, seed, scale, lr, epochs, unseen, shuffle):
    config = small.trial(
        seed, encoder=encoder, losses=small.losses(scale), optim=Optim(lr=lr, epochs=epochs),
        unseen_scanners=tuple(unseen), shuffle_labels=shuffle,
    )  # fmt: skip
    assert lane_key(config) == plain(config)
    assert lane_key(config.model_copy(update={"seed": 1})) == lane_key(config)


@given(first=st.floats(0.1, 10), second=st.floats(0.1, 10), temperature=st.floats(0.01, 1))
def test_losses_of_one_call_differ_in_weight_and_temperature(first, second, temperature):
    one = small.trial(losses=small.losses(first))
    other = small.trial(1, losses=small.losses(second, temperature))
    assert (
        loss_key(one) == loss_key(other) == loss_key_of(json.loads(one.model_dump_json())["losses"])
    )
    fewer = small.trial(losses=small.losses(first)[:2])
    assert loss_key(fewer) != loss_key(one) and lane_key(fewer) == lane_key(one)
    assert loss_key_of([]) == loss_key(small.trial(losses=())) != loss_key(fewer)
