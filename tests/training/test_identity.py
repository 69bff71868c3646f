from training.config import Optim
from training.identity import canonical


def test_the_text_is_sorted_json_of_all_fields():
    assert canonical(Optim(lr=1.0)) == (
        '{"clip":null,"epochs":20,"lr":1,"schedule":"cosine","warmup_epochs":0,"weight_decay":0.01}'
    )
