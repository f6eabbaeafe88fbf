# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What a frozen tower keeps for the backward pass: bytes of saved tensors that are no weights."""

import gc
import importlib
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.training.stages import select_trained
from tests.helpers import assert_close, random_image, tiny_model, tiny_processor


def checkpoint_activations(model: Any) -> None:
    """Switch checkpointing on; newer transformers have another name for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


class SavedBytes:
    """Bytes of activations that calls of the towers' methods save, by method and layers."""

    def __init__(self, model: FilaForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.bytes: dict[str, int] = {}
        self.inside: list[str] = []
        encoder = model.model.vision_tower
        for part, methods in (("low_res_tower", ("embed", "run_layers")), ("high_res_tower", ("embed", "run_stages"))):
            tower = getattr(encoder, part)
            for method in methods:
                monkeypatch.setattr(tower, method, self.counted(f"{part}.{method}", getattr(tower, method)))

    def counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(inputs: Any, *layers: Any, **kwargs: Any) -> Any:
            numbers = [str(layer) for layer in layers if isinstance(layer, int)]
            self.inside.append(" ".join([name, *numbers]))
            self.bytes.setdefault(self.inside[-1], 0)
            try:
                return method(inputs, *layers, **kwargs)
            finally:
                self.inside.pop()

        return call

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.inside and tensor.untyped_storage().data_ptr() not in self.weights:
            self.bytes[self.inside[-1]] += tensor.untyped_storage().nbytes()
        return tensor


def step(
    model: FilaForConditionalGeneration, monkeypatch: pytest.MonkeyPatch, *sizes: tuple[int, int]
) -> dict[str, int]:
    """One forward and backward pass; returns the saved bytes."""
    images = [[random_image(*size)] for size in sizes or ((20, 50),)]
    batch = tiny_processor()(text=["<image> a"] * len(images), images=images, padding=True, return_tensors="pt")
    with monkeypatch.context() as patch:
        saved = SavedBytes(model, patch)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    return saved.bytes


def gradients(model: FilaForConditionalGeneration) -> torch.Tensor:
    """Gradients of all weights that train, in a row."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.requires_grad])


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("embeddings_want_gradients", [False, True])
def test_align_keeps_nothing_of_frozen_towers_that_no_gradient_passes(
    checkpointing: bool, embeddings_want_gradients: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model().train()
    select_trained(model, "align")
    if checkpointing:
        checkpoint_activations(model)
    if embeddings_want_gradients:
        model.enable_input_require_grads()
    saved = step(model, monkeypatch, (20, 50), (90, 91))
    # the fusion after layer 1 trains, so from there on gradients pass through the frozen layers
    through = {"low_res_tower.run_layers 1 2", "low_res_tower.run_layers 2 3", "low_res_tower.run_layers 3 4"}
    assert {name for name, count in saved.items() if count} == through
    assert set(saved) > through


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_of_a_frozen_encoder_are_gone_after_the_forward_pass(checkpointing: bool, frozen: bool) -> None:
    model = tiny_model().train()
    encoder = model.model.vision_tower.requires_grad_(not frozen)
    model.enable_input_require_grads()
    if checkpointing:
        checkpoint_activations(model)
    blocks = [*encoder.low_res_tower.encoder.layers[:-1]]  # the last one's output goes to the connector
    blocks += [block for stage in encoder.high_res_tower.encoder.stages for block in stage.layers]
    outputs: list[weakref.ref[torch.Tensor]] = []
    for block in blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(weakref.ref(output)))
    batch = tiny_processor()(text=["<image> a"], images=[[random_image(20, 50)]], return_tensors="pt")
    loss = model(**batch, labels=batch["input_ids"]).loss
    gc.collect()
    assert len(outputs) == len(blocks)
    assert any(output() is not None for output in outputs) == (not frozen)
    loss.backward()


@pytest.mark.parametrize("fusion", [{"type": "cvfm", "taps": [1, 2, 3, 4]}, {"type": "channel_concat"}])
def test_frozen_encoder_keeps_nothing(fusion: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(fusion=fusion).train()
    model.model.vision_tower.requires_grad_(False)
    model.enable_input_require_grads()
    assert set(step(model, monkeypatch).values()) == {0}


def test_towers_joined_at_the_end_keep_nothing_in_align(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(fusion={"type": "channel_concat"}).train()
    select_trained(model, "align")
    model.enable_input_require_grads()
    assert set(step(model, monkeypatch).values()) == {0}


def test_unfreezing_later_works(monkeypatch: pytest.MonkeyPatch) -> None:
    model, always = tiny_model().train(), tiny_model().train()
    select_trained(model, "align")
    step(model, monkeypatch)
    model.zero_grad(set_to_none=True)
    select_trained(model, "finetune")
    saved = step(model, monkeypatch)
    assert {name for name, count in saved.items() if not count} == {"low_res_tower.run_layers 4 4"}  # no layer
    step(always, monkeypatch)
    assert_close(gradients(model), gradients(always))


def test_replicas_of_data_parallel_train_the_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainer makes them when one process has several GPUs; their parameters are plain tensors."""
    replicate = importlib.import_module("torch.nn.parallel.replicate")
    # what copies to GPUs, without a GPU
    copies = "_broadcast_coalesced_reshape"
    monkeypatch.setattr(replicate, copies, lambda tensors, devices, detach: [[tensor.clone() for tensor in tensors]])
    model = tiny_model().train()
    (replica,) = replicate.replicate(model, [0])
    step(replica, monkeypatch)
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradient_reaches_the_pixels_of_a_frozen_model() -> None:
    model = tiny_model().requires_grad_(False)
    batch = tiny_processor()(text=["<image>"], images=[[random_image(20, 50)]], return_tensors="pt")
    for name in ("pixel_values", "high_res_pixel_values"):
        batch[name].requires_grad_()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    for name in ("pixel_values", "high_res_pixel_values"):
        assert batch[name].grad.abs().max() > 0, name


@pytest.mark.parametrize("stage", ["align", "finetune"])
def test_gradients_with_checkpointing_are_those_without(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, checkpointed = tiny_model().train(), tiny_model().train()
    checkpoint_activations(checkpointed)
    for model in (plain, checkpointed):
        select_trained(model, stage)
        step(model, monkeypatch, (20, 50), (90, 91))
    assert_close(gradients(checkpointed), gradients(plain))
