# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tiny source checkpoints, written to disk the way their publishers write them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tests.helpers import randomise

CLIP_SIZES: dict[str, Any] = {
    "hidden_size": 20,
    "intermediate_size": 37,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "projection_dim": 11,
}
CONVNEXT_SIZES: dict[str, Any] = {"hidden_sizes": [5, 7, 11, 13], "depths": [1, 1, 2, 1]}
LLAMA_SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 31,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
# Role and content in double brackets: no other template writes it.
BRACKETS = "{% for m in messages %}[[{{ m['role'] }}:{{ m['content'] + ']]' }}{% endfor %}"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLACES = (
    "{% for m in messages %}{% for p in m['content'] %}{{ '<image>' if p['type'] == 'image' else p['text'] }}"
    "{% endfor %}{% endfor %}"
)


def write_clip(folder: Path, kind: str = "CLIPVisionModel") -> CLIPVisionModel:
    """Write a CLIP checkpoint of a kind and return its vision tower."""
    vision = CLIPVisionConfig(**CLIP_SIZES)
    text = CLIPTextConfig(
        vocab_size=19, hidden_size=8, intermediate_size=9, num_hidden_layers=1, num_attention_heads=2, eos_token_id=2
    )
    if kind == "CLIPModel":
        model = _saved(CLIPModel(CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict())), folder)
        return model.vision_model
    if kind == "CLIPVisionModelWithProjection":
        return _saved(CLIPVisionModelWithProjection(vision), folder).vision_model
    model = _saved(CLIPVisionModel(vision), folder)
    stored = load_file(folder / "model.safetensors")
    bare = {key.removeprefix("vision_model."): tensor for key, tensor in stored.items()}
    if kind == "prefixed":  # as transformers 4 wrote it, with the constant buffer of its older versions
        bare = {f"vision_model.{key}": tensor for key, tensor in bare.items()}
        bare["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def write_convnext(folder: Path, kind: str = "ConvNextModel") -> ConvNextModel:
    """Write a ConvNeXt checkpoint of a kind and return its trunk."""
    config = ConvNextConfig(**CONVNEXT_SIZES, layer_scale_init_value=0.1, num_labels=3)
    if kind == "ConvNextForImageClassification":
        return _saved(ConvNextForImageClassification(config), folder).convnext
    if kind == "ConvNextModel":
        return _saved(ConvNextModel(config), folder)
    if kind in ("ConvNextV2Model", "timm-v2"):
        model: Any = _saved(ConvNextV2Model(ConvNextV2Config(**CONVNEXT_SIZES)), folder)
    else:
        model = _saved(ConvNextModel(config), folder)
    if kind == "ConvNextV2Model":
        return model
    state = to_timm(
        model.state_dict(), conv_mlp=kind == "timm-conv-mlp", scale="weight" if kind == "eagle" else "gamma"
    )
    settings: dict[str, Any] = {"architecture": "convnext_tiny", "num_classes": 3}
    settings["pretrained_cfg"] = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    if kind == "open_clip":
        state = {f"visual.trunk.{key}": tensor for key, tensor in state.items()}
        state |= {"visual.head.proj.weight": torch.zeros(2, 13), "logit_scale": torch.zeros(())}
        state |= {"transformer.resblocks.0.ln_1.weight": torch.zeros(2), "token_embedding.weight": torch.zeros(3, 2)}
        settings = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_tiny"}}}
    write_part(folder, settings, state)
    return model


def to_timm(state: dict[str, torch.Tensor], *, conv_mlp: bool, scale: str) -> dict[str, torch.Tensor]:
    """The weights of a ConvNext(V2)Model under timm's names and in timm's shapes."""
    renamed = {}
    for key, tensor in state.items():
        name = key.replace("embeddings.patch_embeddings", "stem.0").replace("embeddings.layernorm", "stem.1")
        name = name.replace("encoder.", "").replace("downsampling_layer", "downsample").replace(".layers.", ".blocks.")
        name = name.replace("dwconv", "conv_dw").replace("pwconv1", "mlp.fc1").replace("pwconv2", "mlp.fc2")
        name = name.replace(".grn.", ".mlp.grn.").replace("layer_scale_parameter", scale)
        if ".blocks." in name:
            name = name.replace("layernorm", "norm")
        elif name.startswith("layernorm"):
            name = f"head.norm.{name.split('.')[1]}"
        if ".mlp.grn." in name:
            tensor = tensor.flatten()
        if conv_mlp and name.endswith(("fc1.weight", "fc2.weight")):
            tensor = tensor[:, :, None, None]
        renamed[name] = tensor.detach().clone().contiguous()
    return {**renamed, "head.fc.weight": torch.zeros(3, 13), "head.fc.bias": torch.zeros(3)}


def write_text(
    folder: Path,
    *,
    tied: bool = False,
    rows: int | None = None,
    tokens: list[str] | None = None,
    chat_template: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> LlamaForCausalLM:
    """Write a LLaMA and its byte tokenizer; `rows` of the embedding may exceed the tokenizer's tokens."""
    tokenizer = byte_tokenizer(tokens or [], chat_template)
    config = LlamaConfig(
        **LLAMA_SIZES,
        vocab_size=rows or len(tokenizer),
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    model = _saved(LlamaForCausalLM(config).to(dtype), folder)
    tokenizer.save_pretrained(folder)
    return model


def byte_tokenizer(tokens: list[str], chat_template: str | None) -> PreTrainedTokenizerFast:
    """Bytes as tokens, `<unk>`, `<s>`, `</s>`, and extra special tokens; no pad token."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.add_tokens(tokens, special_tokens=True)
    fast.chat_template = chat_template
    return fast


def write_part(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    """Write a folder with a config and one weight file."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def edit_json(path: Path, **changes: Any) -> None:
    """Replace top-level values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _saved(model: Any, folder: Path) -> Any:
    randomise(model)
    model.eval().save_pretrained(folder)
    return model
