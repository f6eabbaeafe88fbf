# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VAR's own layout: the recorded lists of keys leave nothing over, and small checkpoints keep their values."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from fila import VarForImageGeneration, VarVQModel
from fila.conversion.import_var import collect, find_scales, generator_config, import_var, tokenizer_config
from tests.helpers import assert_close, randomise
from tests.modeling.tiny_var import DRAWN, tiny_generator, tiny_tokenizer_model
from tests.parity.golden import FOLDER, golden_files, read_json

TOKENIZER = read_json(FOLDER / "var_vae_ch160_state_keys.json")


def on_meta(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def original(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tokenizer's and the transformer's weights under the source's names."""
    tokenizer, transformer = {}, {}
    for key, value in model.state_dict().items():
        name = key.removeprefix("vq_model.")
        if key.endswith("hit_updates"):
            continue
        if key != name or isinstance(model, VarVQModel):
            name = name.replace("code_hits", "ema_vocab_hit_SV").replace(".phis.", ".quant_resi.qresi_ls.")
            tokenizer[name] = value
        else:
            transformer[re.sub(r"(ada_lin)\.", r"\1.1.", name)] = value
    return tokenizer, transformer


@pytest.mark.parametrize("path", golden_files("var_vae*_state_keys.json"), ids=lambda path: path.stem)
def test_released_tokenizer_golden(path: Path) -> None:
    recorded = read_json(path)
    config = tokenizer_config(recorded["keys"])
    assert config.base_channels == recorded["keys"]["encoder.conv_in.weight"][0]
    with torch.device("meta"):
        model = VarVQModel(config)
    assert sum(weight.numel() for weight in model.parameters()) == recorded["params"]
    assert sum(weight.numel() for weight in model.encoder.parameters()) == recorded["encoder"]
    assert sum(weight.numel() for weight in model.decoder.parameters()) == recorded["decoder"]
    weights, dropped = collect(model, on_meta(recorded["keys"]), {})
    assert len(weights) == len(recorded["keys"]) + 1
    assert not dropped


def released_transformers() -> list[Any]:
    return [
        pytest.param(values, id=f"{path.stem}-{name}")
        for path in golden_files("var_transformer_state_keys.json")
        for name, values in read_json(path).items()
    ]


@pytest.mark.parametrize("recorded", released_transformers())
def test_released_transformers_golden(recorded: dict[str, Any]) -> None:
    listed = recorded["keys_outside_blocks_and_block0"]
    depth = listed["pos_1LC"][2] // 64
    keys = {
        key.replace("blocks.0.", f"blocks.{index}."): shape
        for index in range(depth)
        for key, shape in listed.items()
        if index == 0 or key.startswith("blocks.0.")
    }
    config = generator_config(keys, TOKENIZER["keys"])
    assert config.vq_config.patch_nums == recorded["patch_nums"]
    assert config.shared_adaln == recorded["shared_aln"]
    assert config.num_hidden_layers == config.num_attention_heads == depth
    with torch.device("meta"):
        model = VarForImageGeneration(config)
    own = [weight.numel() for name, weight in model.named_parameters() if not name.startswith("vq_model.")]
    assert sum(own) == recorded["params"]
    _, dropped = collect(model, on_meta(TOKENIZER["keys"]), on_meta(keys))
    assert sum(dropped.values()) == 2 + depth


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_imported_tokenizer_reconstructs_alike(suffix: str, tmp_path: Path) -> None:
    model = tiny_tokenizer_model()
    randomise(model, std=0.1)
    state, _ = original(model)
    source = tmp_path / f"vae{suffix}"
    if suffix == ".pth":
        torch.save(state, source)
    else:
        save_file(state, source)
    assert import_var(source, tmp_path / "out", patch_nums=model.config.patch_nums) == {}
    loaded = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(loaded) is VarVQModel
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert_close(loaded.reconstruct(images)[0], model.reconstruct(images)[0], DRAWN)
    assert torch.equal(loaded.quantize.code_hits, model.quantize.code_hits)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.crop_size["height"] == 16
    assert processor.size["shortest_edge"] == 18


def test_imported_generator_makes_the_same_image(tmp_path: Path) -> None:
    model = tiny_generator()
    randomise(model, std=0.3)
    tokenizer, transformer = original(model)
    tokenizer["quantize.ema_vocab_hit_SV"] = torch.zeros(9, 11)  # statistics of a model with other scales
    length = model.pos_1LC.shape[1]
    transformer["lvl_1L"] = torch.zeros(1, length, dtype=torch.int64)
    transformer["attn_bias_for_masking"] = torch.zeros(1, 1, length, length)
    transformer |= {f"blocks.{index}.attn.zero_k_bias": torch.zeros(24) for index in range(3)}
    torch.save(tokenizer, tmp_path / "vae.pth")
    torch.save(transformer, tmp_path / "var.pth")
    dropped = import_var(
        tmp_path / "vae.pth",
        tmp_path / "out",
        transformer=tmp_path / "var.pth",
        patch_nums=model.config.vq_config.patch_nums,
    )
    assert sum(dropped.values()) == 2 + 3 + 1
    loaded = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(loaded) is VarForImageGeneration
    labels = torch.tensor([1, 4])
    ours, theirs = (made.generate(labels, do_sample=False) for made in (loaded, model))
    assert torch.equal(ours.image_ids[-1], theirs.image_ids[-1])
    assert_close(ours.images, theirs.images, DRAWN)


def test_strangers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not the weights of a VAR tokenizer: 'encoder.conv_in.weight' is missing"):
        tokenizer_config({})
    with pytest.raises(ValueError, match=r"not the weights of a VAR transformer"):
        generator_config({}, {})
    with pytest.raises(ValueError, match=r"No released model has 10 scales and 7 ids. Pass `patch_nums`"):
        find_scales(10, 7)
    torch.save({"trainer": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"must hold a plain dict of tensors"):
        import_var(tmp_path / "other.pth", tmp_path / "out")
    state, _ = original(tiny_tokenizer_model())
    torch.save(state | {"discriminator.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(RuntimeError, match=r"1 keys of the tokenizer were not consumed, e.g. 'discriminator.weight'"):
        import_var(tmp_path / "more.pth", tmp_path / "out", patch_nums=[1, 2, 4])
