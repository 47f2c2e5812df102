"""The learning rate, against PyTorch's own schedules."""

import pytest
import torch
from torch.optim import lr_scheduler

from ser.heads.config import parse_head
from ser.heads.training.schedule import epochs


def config(**options):
    return parse_head({"features": ["a"], "lr": 0.1, "lr_min": 0.001, "epochs": 5} | options)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, 5, eta_min=0.001)),
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, 0.01, 5)),
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 5))),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_it_is_that_of_pytorch(name, make):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    theirs = make(optimizer)
    for epoch in range(5):
        ours = epochs(config(schedule=name))[epoch].rate(0, 1)
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_it_climbs_step_by_step_to_what_it_should_be():
    first = epochs(config(schedule="constant", warmup=4))[0]
    assert [first.rate(step, 6) for step in range(6)] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    )


def test_phases_are_gone_through_epoch_by_epoch():
    phases = [{"epochs": 2, "lr": 1.0}, {"epochs": 1, "sampler": "undersample"}]
    values = [
        (e.number, e.stage.lr, e.stage.sampler.name, e.done) for e in epochs(config(phases=phases))
    ]
    assert values == [
        (0, 1.0, "natural", 0.0),
        (1, 1.0, "natural", 0.5),
        (2, 0.1, "undersample", 0.0),
    ]
