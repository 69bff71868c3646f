"""A session to train in, and the ordinary way to train a model, which lanes have to agree with."""

import torch

from tests.training import small
from training import objective, seeds
from training.config import TrialConfig
from training.data import sampling
from training.data.index import Dataset
from training.dropout import draw_dropped
from training.optimiser import schedule
from training.session import Session


def session(configs: list[TrialConfig], cohort: Dataset) -> Session:
    return Session(configs, cohort, device=torch.device("cpu"), resident_bytes=2**20)


def plain_loop(config: TrialConfig, trained: Session) -> dict[str, torch.Tensor]:
    """Train one model the ordinary way: no stack, no vmap, torch's own optimiser and clipping."""
    model = objective.initialise(
        config,
        seeds.derive(config.seed, "initialisation"),
        in_dim=small.DIM,
        num_outputs=trained.scans.num_outputs,
        num_groups=trained.scans.num_groups,
        num_patients=trained.scans.num_patients,
        base=trained.scans.base,
    )
    generator = torch.Generator().manual_seed(seeds.derive(config.seed, "dropout"))
    optim = config.optim
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=optim.weight_decay)
    weights = torch.tensor([loss.weight for loss in config.losses], dtype=torch.float64)
    temperatures = torch.tensor(
        [getattr(loss, "temperature", 1) for loss in config.losses], dtype=torch.float64
    )
    step = 0
    for epoch in range(1, optim.epochs + 1):
        key = (config.draw_seed, config.fold, epoch)
        for draw in sampling.epoch(trained.pool, config.sampling, key=key):
            batch = trained.loader.batch(draw, config.sampling.tiles_per_bag)
            dropped = draw_dropped(
                [generator],
                (batch.bags.shape[0], batch.bags.shape[1]),
                widths=config.head.embed_dims,
                dropout=config.head.dropout,
            )
            mine = tuple(mask[0] for mask in dropped)
            total, _ = model(batch.bags, batch.mask, mine, weights, temperatures, batch)
            optimiser.zero_grad()
            total.backward()
            if optim.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip)
            optimiser.param_groups[0]["lr"] = optim.lr * schedule(
                optim, step, trained.steps_per_epoch
            )
            optimiser.step()
            step += 1
    return model.state_dict()


def assert_as_in_a_plain_loop(configs: list[TrialConfig], cohort: Dataset) -> None:
    """Train the trials as lanes, in float64, and each alone; compare parameters and buffers."""
    assert {config.precision for config in configs} == {"float64"}
    trained = session(configs, cohort)
    for _ in range(configs[0].optim.epochs):
        trained.run_epoch()
    for lane, config in enumerate(configs):
        rows = trained.lanes.flat[lane], trained.lanes.state[lane]
        found = trained.lanes.named(*rows, kind=trained.kinds[lane])
        expected = plain_loop(config, trained)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-10)
