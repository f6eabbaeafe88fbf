# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Processes with different images, or none: nobody waits for ever, and they compute what one process computes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import merge_fsdp_weights
from filelock import FileLock
from transformers import AutoModelForImageTextToText

from fila import FilaForConditionalGeneration
from tests.helpers import assert_close, single_tower, tiny_model
from tests.training import two_processes
from tests.training.two_processes import BATCHES, TEXT_ALONE, THREE_SIZES, TWO_SIZES, batch_of, train

MOVED = "model.vision_tower.fusion.layers.0.fc1.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the two processes left; one pair serves all workers of pytest-xdist, whose folders have one parent."""
    base = tmp_path_factory.getbasetemp()
    made: Path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributed"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            made.mkdir()
            two_processes.run(made)
    missing = [name for name in two_processes.SCENARIOS if len(list(made.glob(f"{name}-[01].done"))) < 2]
    assert not missing, f"The two processes, which another worker of pytest started, did not finish {missing}."
    return made


def result(folder: Path, scenario: str, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{scenario}-{rank}.pt", weights_only=True)
    return found


@pytest.mark.parametrize(
    ("scenario", "batches", "prepare"),
    [
        ("ddp", "text", None),
        ("ddp-frozen-vision", "text", two_processes.freeze_vision),
        ("fsdp2", "text", None),
        ("fsdp2-sizes", "sizes", None),
        ("fsdp2-checkpointing", "text", None),
        ("fsdp2-checkpointing-sizes", "sizes", None),
        ("fsdp2-frozen-vision", "text", two_processes.freeze_vision),
        ("fsdp2-frozen-towers", "sizes", two_processes.freeze_towers),
    ],
)
def test_two_processes_train_as_one_whatever_images_each_has(
    scenario: str, batches: str, prepare: Any, folder: Path
) -> None:
    alone = tiny_model().train()
    if prepare is not None:
        prepare(alone)
    gradients = train(alone, [batch_of(sizes) for sizes in BATCHES[batches]])
    start, expected, actual = tiny_model().state_dict(), alone.state_dict(), result(folder, scenario)
    # float32 in another order of summation; measured worst over all scenarios: weights 1.2e-7, gradients 3.0e-7
    for kind, reference in (("weights", expected), ("gradients", gradients)):
        assert set(actual[kind]) == set(reference)
        for name, weight in reference.items():
            assert_close(actual[kind][name], weight, 1e-6)
    assert bool((expected[MOVED] - start[MOVED]).any()) == (prepare is not two_processes.freeze_vision)


def test_mixed_precision_stays_near_the_single_process(folder: Path) -> None:
    alone = tiny_model().train()
    train(alone, [batch_of(sizes) for sizes in BATCHES["text"]])
    start, actual = tiny_model().state_dict(), result(folder, "fsdp2-bf16")["weights"]
    moves = {name: (weight - start[name], actual[name] - start[name]) for name, weight in alone.state_dict().items()}
    expected, found = (torch.cat([pair[i].flatten() for pair in moves.values()]) for i in (0, 1))
    assert (found - expected).norm() <= 0.1 * expected.norm(), (found - expected).norm() / expected.norm()


def test_frozen_vision_costs_data_parallel_text_alone_nothing(folder: Path) -> None:
    assert [result(folder, "ddp-frozen-vision", rank)["calls"] for rank in range(2)] == [0, two_processes.STEPS]


@pytest.mark.parametrize("rank", [0, 1])
def test_sharded_model_evaluates_and_generates_as_a_whole_one(rank: int, folder: Path) -> None:
    model = tiny_model()
    batch = batch_of(BATCHES["text"][rank])
    batch.pop("labels")
    actual = result(folder, "evaluate", rank)
    with torch.no_grad():
        assert_close(actual["logits"], model(**batch).logits)
    for beams, tokens in zip((1, 2), actual["tokens"], strict=True):
        expected = model.generate(**batch, max_new_tokens=4 + rank, do_sample=False, num_beams=beams)
        assert torch.equal(tokens, expected)
    assert actual["calls"] == 3  # once for the logits and once for each of two texts, not for each token


@pytest.mark.parametrize("scenario", ["trainer", "trainer-stream"])
def test_trainer_weighs_and_asks_in_two_processes_as_in_one(scenario: str, folder: Path, tmp_path: Path) -> None:
    alone = two_processes.run_trainer(tmp_path, 4, stream=scenario == "trainer-stream")
    first, second = (result(folder, scenario, rank) for rank in range(2))
    assert [alone["world"], first["world"], second["world"]] == [1, 2, 2]
    assert len(alone["logs"]) == len(first["logs"]) == 4
    for expected, actual in zip(alone["logs"], first["logs"], strict=True):
        assert actual == pytest.approx(expected, rel=1e-5)
    start = tiny_model().state_dict()
    assert any(bool((weight - start[name]).any()) for name, weight in alone["weights"].items())
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        assert_close(first["weights"][name], weight, 1e-6)


@pytest.mark.parametrize("way", ["merged", "whole"])
def test_sharded_save_loads_as_one_checkpoint(way: str, folder: Path, tmp_path: Path) -> None:
    saved = folder / "whole"
    if way == "merged":
        saved = tmp_path / "merged"
        merge_fsdp_weights(str(folder / "shards"), str(saved))
        tiny_model().config.save_pretrained(saved)
    loaded, report = AutoModelForImageTextToText.from_pretrained(saved, output_loading_info=True)
    assert type(loaded) is FilaForConditionalGeneration
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = result(folder, "save")["weights"]
    assert set(loaded.state_dict()) == set(expected)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_text_alone_touches_every_trainable_parameter_with_zero_gradient() -> None:
    model = tiny_model().train()
    model(**batch_of(TEXT_ALONE)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if "vision_tower" in name or "multi_modal_projector" in name:
            assert torch.count_nonzero(parameter.grad) == 0, name


def test_text_alone_costs_no_vision_pass_when_nothing_of_it_trains() -> None:
    model = tiny_model()
    calls = []
    model.model.vision_tower.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        expected = model(**batch_of(TEXT_ALONE)).logits
        assert torch.equal(model.train()(**batch_of(TEXT_ALONE)).logits, expected)
    two_processes.freeze_vision(model)
    model(**batch_of(TEXT_ALONE))
    assert calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"high_res_overview": "encode"},
        {"fusion": {"type": "channel_concat"}},
        {
            "high_res_vision_config": {
                "model_type": "convnextv2",
                "hidden_sizes": [5, 7, 11, 13],
                "depths": [1, 1, 1, 1],
            }
        },
        single_tower(),
    ],
    ids=["cvfm", "encode-overview", "channel-concat", "convnextv2", "single-tower"],
)
def test_calls_of_modules_do_not_depend_on_the_images(changes: dict[str, Any]) -> None:
    """ZeRO-3 gathers at every call of every module, and again for every tensor that it gave; FSDP2 at some of them."""
    model = tiny_model(**changes).train()
    calls: list[Any] = []

    def count_tensors(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        calls.append(1 if isinstance(output, torch.Tensor) else len(output))

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        if name.startswith("model.vision_tower."):
            module.register_forward_hook(count_tensors)
    orders = []
    for sizes in (TEXT_ALONE, [(20, 50)], TWO_SIZES, THREE_SIZES):
        calls.clear()
        model(**batch_of(sizes))
        orders.append(list(calls))
    assert orders[1:] == orders[:1] * 3
    names = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    assert {name: orders[0].count(name) for name in names} == dict.fromkeys(names, 1)
