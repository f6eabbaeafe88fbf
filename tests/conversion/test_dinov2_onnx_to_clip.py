# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionModel, Dinov2Config, Dinov2Model

from fila.conversion.dinov2_onnx_to_clip import (
    _MATMULS,
    convert_onnx,
    dinov2_state_from_onnx,
    dinov2_to_clip,
)
from fila.conversion.onnx_weights import OnnxWeights
from tests.conversion.onnx_file import encode_onnx
from tests.helpers import randomise

HEAD = 6
WIDTH = 18
# Measured on these sizes over 20 seeds and three image sizes: 6.5e-6 of the largest value; float32 rounding in the
# norms.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dinov2Model, dict[str, torch.Tensor]]:
    """A tiny DINOv2 with random weights, and its weights under their names on disk."""
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_attention_heads=WIDTH // HEAD,
        num_hidden_layers=3,
        mlp_ratio=2,
        image_size=35,
        patch_size=7,
        use_mask_token=False,
    )
    model = Dinov2Model(config).eval()
    randomise(model)
    folder = tmp_path_factory.mktemp("dinov2")
    model.save_pretrained(folder)
    return model, load_file(folder / "model.safetensors")


def _error(clip: CLIPVisionModel, dinov2: Dinov2Model, pixels: torch.Tensor, *, interpolate: bool = False) -> float:
    """Largest difference after the last norm, relative to the largest value."""
    with torch.no_grad():
        expected = dinov2(pixels).last_hidden_state
        hidden = clip(pixels, interpolate_pos_encoding=interpolate).last_hidden_state
        found = clip.post_layernorm(hidden)
    assert not hidden[..., WIDTH:].any()
    return ((found[..., :WIDTH] - expected).abs().max() / expected.abs().max()).item()


def test_clip_computes_what_dinov2_computes(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]]) -> None:
    model, state = dinov2
    clip = dinov2_to_clip(state, head_size=HEAD)
    assert clip.config.hidden_size == WIDTH + HEAD
    assert _error(clip, model, torch.randn(2, 3, 35, 35)) < TOLERANCE


def test_clip_interpolates_as_dinov2_does(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]]) -> None:
    model, state = dinov2
    clip = dinov2_to_clip(state, head_size=HEAD)
    assert _error(clip, model, torch.randn(2, 3, 49, 49), interpolate=True) < TOLERANCE


@pytest.mark.parametrize("image_size", [21, 35, 56])
def test_clip_for_another_image_size(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]], image_size: int) -> None:
    model, state = dinov2
    clip = dinov2_to_clip(state, head_size=HEAD, image_size=image_size)
    assert clip.config.image_size == image_size
    assert _error(clip, model, torch.randn(1, 3, image_size, image_size)) < TOLERANCE


def _as_exported(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """The weights as an export leaves them: linear weights nameless and transposed, position embeddings split."""
    tensors, matmuls = {}, {}
    for name, tensor in state.items():
        layer, _, leaf = name.removeprefix("encoder.layer.").partition(".")
        nodes = {f"{value}.weight": node for node, value in _MATMULS.items()}
        if leaf in nodes:
            tensors[f"onnx::MatMul_{len(tensors)}"] = tensor.T
            matmuls[f"/backbone/encoder/layer.{layer}/{nodes[leaf]}/MatMul"] = (
                "x",
                f"onnx::MatMul_{len(tensors) - 1}",
            )
        elif name == "embeddings.position_embeddings":
            tensors["onnx::Concat_1"], tensors["onnx::Reshape_2"] = tensor[:, :1], tensor[:, 1:]
        else:
            tensors[f"backbone.{name}"] = tensor
    return {**tensors, "decoder.final_conv.weight": torch.zeros(1, 2, 1, 1)}, matmuls


def test_dinov2_state_from_onnx_finds_every_weight(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]]) -> None:
    _, state = dinov2
    found = dinov2_state_from_onnx(OnnxWeights(*_as_exported(state)))
    assert set(found) == set(state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_dinov2_state_from_onnx_names_what_is_missing(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]]) -> None:
    tensors, matmuls = _as_exported(dinov2[1])
    del matmuls["/backbone/encoder/layer.1/mlp/fc1/MatMul"]
    with pytest.raises(ValueError, match=r"no DINOv2 backbone .*layer\.1/mlp/fc1/MatMul.* is missing"):
        dinov2_state_from_onnx(OnnxWeights(tensors, matmuls))
    with pytest.raises(ValueError, match="no DINOv2 backbone"):
        dinov2_state_from_onnx(OnnxWeights({"w": torch.zeros(2)}, {}))


def test_dinov2_state_from_onnx_rejects_missing_positions(dinov2: tuple[Dinov2Model, dict[str, torch.Tensor]]) -> None:
    tensors, matmuls = _as_exported(dinov2[1])
    del tensors["onnx::Concat_1"]
    with pytest.raises(ValueError, match=r"must hold two position embeddings \(CLS and patches\); it holds 1"):
        dinov2_state_from_onnx(OnnxWeights(tensors, matmuls))


def test_convert_onnx_writes_a_clip_checkpoint(tmp_path: Path) -> None:
    config = Dinov2Config(
        hidden_size=64, num_attention_heads=1, num_hidden_layers=1, mlp_ratio=1, image_size=14, patch_size=7
    )
    config.use_mask_token = False
    model = Dinov2Model(config).eval()
    randomise(model)
    model.save_pretrained(tmp_path / "dinov2")
    state = load_file(tmp_path / "dinov2" / "model.safetensors")
    (tmp_path / "x.onnx").write_bytes(encode_onnx(*_as_exported(state)))
    convert_onnx(tmp_path / "x.onnx", tmp_path / "clip", image_size=21)
    clip, info = CLIPVisionModel.from_pretrained(tmp_path / "clip", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (clip.config.hidden_size, clip.config.image_size) == (128, 21)
    settings = json.loads((tmp_path / "clip" / "preprocessor_config.json").read_text())
    assert settings["image_mean"] == pytest.approx([0.485, 0.456, 0.406])
