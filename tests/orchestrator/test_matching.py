import h5py
import pytest

from orchestrator import matching, plan, spec
from tests.orchestrator.finished import write_spec
from training import simulate
from training.data import index
from training.simulation_config import Simulation

SPEC = """\
data: {data}
task: {{kind: binary}}
encoders: [tiny]
folds: {{kind: cohort, train: [dev], test: [test], num_folds: 2}}
seeds: 1
head: {{kind: attention, embed_dims: [4], attention_dim: 4}}
sampling: {{slides_per_batch: 8, pairs_per_batch: 4, tiles_per_bag: 8}}
arms:
  plain: {{views: all}}
  other: {{views: all, losses: {{x: {loss}}}}}
"""
TILES = "{kind: embedding, level: tile}"


@pytest.fixture
def data(tmp_path):
    config = Simulation.model_validate(
        {
            "dev_patients": 12, "test_patients": 8, "min_tiles": 4, "max_tiles": 6,
            "encoders": {"tiny": {"dim": 4}},
        }
    )  # fmt: skip
    simulate.write(config, tmp_path / "data")
    return tmp_path / "data"


def warnings(tmp_path, data, loss):
    path = write_spec(tmp_path, text=SPEC.format(data=data, loss=loss))
    made = plan.make(spec.expand(spec.read(path)), dataset=index.read(data), lanes_max=4)
    return matching.warnings(index.read(data), made)


def number_apart(data, slides):
    """Give the tiles of each scan of these slides numbers of their own."""
    views = index.read(data).index
    chosen = views[views["slide"].isin(slides)]
    for number, row in enumerate(chosen.itertuples(index=False), start=1):
        with h5py.File(data / row.shard, "r+") as file:
            file["tile"][row.row_start : row.row_start + row.num_tiles] += number * 1000


@pytest.mark.parametrize("loss", [TILES, "{kind: score, form: attention}"])
def test_losses_on_tiles_that_no_two_scans_share_are_told(tmp_path, data, loss):
    assert warnings(tmp_path, data, loss) == []
    number_apart(data, set(index.read(data).index["slide"]))
    (line,) = warnings(tmp_path, data, loss)
    assert line.startswith("tiny: no tile is the same tissue in two scans of a slide (")
    assert warnings(tmp_path, data, "{kind: embedding}") == []


def test_some_slides_that_match_are_enough(tmp_path, data):
    views = index.read(data).index
    several = views[views.duplicated("slide")]["slide"].drop_duplicates().tolist()
    number_apart(data, several[:-1])
    assert warnings(tmp_path, data, TILES) == []
