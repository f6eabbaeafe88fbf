# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import copy

import torch
from torch import nn

from projects.default_model.muon import make_optimizer
from tests.helpers import assert_close


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 3)])
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


# `.layers.` needs something before it
def wrapped() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Model())


def test_matrices_of_layers_go_to_muon_and_the_rest_to_adamw() -> None:
    model = wrapped()
    optimizer = make_optimizer(model, 0.02, 0.01, 0.0)
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(7, 5), (3, 7)]
    assert len(optimizer.param_groups[1]["params"]) == 4
    twin = copy.deepcopy(model)
    muon = torch.optim.Muon(
        [twin[0].layers[0].weight, twin[0].layers[1].weight], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    rest = [p for n, p in twin.named_parameters() if not n.endswith("weight") or "head" in n]
    adamw = torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0, betas=(0.9, 0.98))
    for seed in range(3):
        step(model, optimizer, seed)
        x = torch.randn(11, 5, generator=torch.Generator().manual_seed(seed))
        twin.zero_grad()
        twin(x).square().sum().backward()
        muon.step()
        adamw.step()
    for first, second in zip(model.parameters(), twin.parameters(), strict=True):
        assert_close(first, second)


def test_a_schedule_reaches_both_parts_and_a_saved_state_goes_on() -> None:
    model = wrapped()
    optimizer = make_optimizer(model, 0.02, 0.01, 0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    step(model, optimizer, 0)
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.01, 0.005]
    other = copy.deepcopy(model)
    resumed = make_optimizer(other, 0.02, 0.01, 0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((model, optimizer), (other, resumed)):
        step(each, its, 1)
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)
