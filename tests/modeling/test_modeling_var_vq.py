# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from fila import VarImageProcessorPil, VarVQModel
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import DRAWN, tiny_tokenizer_model, tiny_vq_config


def model(**changes: object) -> VarVQModel:
    built = tiny_tokenizer_model(**changes)
    randomise(built, std=0.2)
    return built


def images(height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.rand(2, 3, height, width) * 2 - 1


def test_prefixes_of_scales_decode_to_the_reconstructions() -> None:
    ours, pixels = model(), images()
    ids = ours.encode(pixels)
    assert [found.shape for found in ids] == [(2, 1), (2, 4), (2, 16)]
    drawn = ours.reconstruct(pixels, every_scale=True)
    for count in (1, 2, 3):
        assert_close(ours.decode(ids[:count]), drawn[count - 1], DRAWN)
    assert ours.decode(ids[:2], full_size=False).shape == (2, 3, 8, 8)
    assert torch.equal(ours.encode(pixels, num_scales=2)[1], ids[1])


def test_pixels_take_the_weights_dtype() -> None:
    ours, pixels = model().to(torch.bfloat16), images()
    assert [found.shape for found in ours.encode(pixels)] == [(2, 1), (2, 4), (2, 16)]
    assert ours.reconstruct(pixels)[0].isfinite().all()


def test_only_layers_that_are_there_are_named() -> None:
    assert model()._no_split_modules == {"ResidualBlock", "MapAttention"}
    plain = tiny_tokenizer_model(attention_in_last_level=False, attention_in_middle=False)
    assert plain._no_split_modules == {"ResidualBlock"}


def test_forward_reconstructs_alike_and_trains_every_weight() -> None:
    ours, pixels = model(), images()
    output = ours(pixels)
    assert_close(output.reconstruction.detach().clamp(-1, 1), ours.reconstruct(pixels)[0], DRAWN)
    (output.loss + output.reconstruction.square().mean()).backward()
    assert not [name for name, weight in ours.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_images_of_other_sizes_take_other_scales() -> None:
    ours, pixels = model(), images(12, 20)
    ids = ours.encode(pixels, patch_nums=[1, (2, 3), (3, 5)])
    assert ours.decode(ids, patch_nums=[1, (2, 3), (3, 5)]).shape == (2, 3, 12, 20)
    with pytest.raises(ValueError, match=r"the map is \(3, 5\) and `patch_nums` ends in \(4, 4\)"):
        ours.encode(pixels)
    with pytest.raises(ValueError, match=r"multiples of 4, the encoder's downsampling; got \(10, 16\)"):
        ours.encode(images(10, 16))


def test_gradient_checkpointing_changes_nothing() -> None:
    ours, pixels = model().train(), images()
    plain = torch.autograd.grad(ours(pixels).reconstruction.sum(), ours.encoder.conv_in.weight)
    enable = getattr(ours, "activation_checkpointing_enable", None) or ours.gradient_checkpointing_enable
    enable()  # transformers below 5.23 has the other name only
    again = torch.autograd.grad(ours(pixels).reconstruction.sum(), ours.encoder.conv_in.weight)
    assert_close(again[0], plain[0], 1e-5)


def test_saved_model_and_processor_are_found_by_the_model_type(tmp_path: Path) -> None:
    ours = model()
    ours.save_pretrained(tmp_path)
    VarImageProcessorPil(size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    pixels = processor(Image.new("RGB", (40, 30), (255, 0, 51)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 16, 16)
    assert_close(pixels[0, :, 5, 5], torch.tensor([1, -1, -0.6]), 1e-6)
    assert_close(loaded.reconstruct(pixels)[0], ours.reconstruct(pixels)[0], DRAWN)
    (picture,) = processor.post_process(pixels)
    assert np.array(picture)[5, 5].tolist() == [255, 0, 51]


def test_new_model_starts_as_torch_and_vqgan_do() -> None:
    ours = tiny_tokenizer_model()
    assert ours.quantize.embedding.weight.abs().max() <= 1 / 11
    assert ours.quantize.embedding.weight.std() > 0.03
    weight = ours.encoder.mid.block_1.conv1.weight
    assert weight.abs().max() <= (64 * 9) ** -0.5
    assert not ours.quantize.code_hits.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_channels": 24}, r"`base_channels` must be a multiple of `norm_groups`; got 24 and 32"),
        ({"patch_nums": [1, 5]}, r"`patch_nums` must end in `image_size` / 4, .* got 5 and `image_size` 16"),
        ({"patch_nums": []}, r"`channel_multipliers` and `patch_nums` must not be empty"),
    ],
)
def test_config_rejects(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_vq_config(**changes)
