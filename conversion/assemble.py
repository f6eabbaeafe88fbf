# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Assemble a checkpoint from a low-res tower, a high-res tower and a language model.

Tensors stream piece by piece from the parts' files to the output. Only the new weights (fusion, connector) are held in
memory.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoTokenizer, PreTrainedConfig

from fila.modeling.configuration_fila import AUTO_MAP, FilaConfig
from fila.modeling.fusion import needs_high_res_tower
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.modeling.towers import HIGH_RES_TOWERS, LOW_RES_TOWERS
from fila.systems.chat_templates import choose_chat_template
from fila.systems.meta_model import model_on_meta

from .damage import naming_damage
from .gguf_text import convert_gguf, find_gguf
from .model_card import PartEntry, write_model_card
from .output import parse_size, write_weights, written_atomically
from .pretrained_part import Part, open_part, read_card
from .processor_files import save_generation_config, save_processor
from .rules_convnext import convnext_config, is_convnext, preset_config
from .rules_text import text_config
from .rules_vit import vit_config, vit_types
from .tokens import add_image_token, ensure_pad_token, image_token_of, padded_vocabulary
from .weights import collect_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def assemble(
    low_res: str | Path,
    high_res: str | Path | None,
    text: str | Path,
    output: str | Path,
    *,
    high_res_init: str | Path | None = None,
    text_gguf_file: str | None = None,
    fusion: Mapping[str, Any] | str | None = None,
    connector: Mapping[str, Any] | str | None = None,
    injection: Mapping[str, Any] | None = None,
    canvas: Mapping[str, Any] | str | None = None,
    vision_feature_layer: int = -2,
    tile_size: int | None = None,
    high_res_tile_size: int | None = None,
    high_res_overview: str = "pool",
    image_token: str = "<image>",
    dtype: str | torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Assemble a checkpoint folder that `AutoModelForImageTextToText` and `AutoProcessor` load.

    Args:
        low_res: CLIP, SigLIP, DINOv2 or InternViT checkpoint of transformers' classes, the tower alone or a whole
            model: a folder, or `owner/name` or `owner/name@revision` on the Hub.
        high_res: ConvNeXt checkpoint, in transformers', timm's or open_clip's names; or one of SAM, Pix2Struct or a
            tower that may be the low-res one, in transformers'. `None` with `high_res_init`, or for a single-tower
            model.
        text: Language-model checkpoint, or a GGUF file.
        output: Folder to write; it must not exist unless `overwrite` is set.
        high_res_init: Start the high-res tower from random weights instead: a size such as `"convnext-femto"`, or a
            folder with a config.json. The model card calls it UNTRAINED.
        text_gguf_file: Name of a GGUF file in the Hub repository `text`.
        fusion: Name or option dict of the fusion; FILA's by default. `"none"` for a single-tower model.
        connector: Name or option dict of the connector.
        injection: Option dict of the injection; none by default.
        canvas: Name or option dict of the canvas strategy.
        vision_feature_layer: Layer of the low-res tower that the connector reads; later ones are left behind.
        tile_size: Pixels per side of a view, where the low-res tower's own size is not whole patches or too small.
        high_res_tile_size: High-res pixels per side of a view, see `FilaConfig`; Pix2Struct has no size of its own.
        high_res_overview: What the overview receives from the high-res tower, `"pool"`, `"interpolate"` or `"encode"`.
        image_token: Placeholder of an image; added to the tokenizer if missing. If the tokenizer names an image token
            of its own, that one is used instead.
        dtype: dtype of all weights: float32, bfloat16 or float16; the language model's stored dtype by default
            (bfloat16 for a GGUF file).
        max_shard_size: Largest weight file, in bytes or as `"5GB"`.
        seed: Random seed of the new weights.
        overwrite: Replace an existing output.
        progress: Show a progress bar.

    Returns:
        The output folder.

    Raises:
        ValueError: If a part cannot be read or the parts do not fit together; the message names file and key.
        RuntimeError: If a tensor of a part is not accounted for, or one of the model is not filled.
        FileExistsError: If the output exists.
    """
    if high_res is not None and high_res_init is not None:
        raise ValueError("`high_res` and `high_res_init` both name the high-res tower; pass one of them.")
    if high_res is None and high_res_init is None and (fusion is None or needs_high_res_tower(fusion)):
        raise ValueError(
            "There is no high-res tower. Pass `high_res`, or `high_res_init` for one with random weights, or "
            '`fusion={"type": "none"}` for a model with the low-res tower alone.'
        )
    output, shard_bytes, chosen_dtype = Path(output), parse_size(max_shard_size), parse_dtype(dtype)
    inputs = [low_res, high_res, high_res_init, text]
    with written_atomically(output, overwrite=overwrite, inputs=inputs) as folder:
        scratch = folder / "text.partial"
        low_part = open_part(low_res)
        high_part = _open_high_res(high_res, high_res_init)
        text_part = _open_text(text, text_gguf_file, scratch, chosen_dtype or torch.bfloat16)
        _check_kinds(low_part, text_part)
        values_dtype = chosen_dtype or stored_dtype(text_part)

        with naming_damage(text_part.folder):
            tokenizer = AutoTokenizer.from_pretrained(text_part.folder, trust_remote_code=False)
        tokenizer.init_kwargs.pop("auto_map", None)  # code that stays behind
        image_token = image_token_of(tokenizer, image_token)
        image_token_id = add_image_token(tokenizer, image_token)
        ensure_pad_token(tokenizer, image_token)
        chat_template = choose_chat_template(tokenizer, image_token)
        options = {
            "fusion": fusion,
            "connector": connector,
            "injection": injection,
            "vision_feature_layer": vision_feature_layer,
            "tile_size": tile_size,
            "high_res_tile_size": high_res_tile_size,
            "high_res_overview": high_res_overview,
            "image_token_id": image_token_id,
        }
        config = _config(low_part, high_part, high_res_init, text_part, options, dtype=values_dtype)
        config.text_config.vocab_size = padded_vocabulary(tokenizer, config.text_config.vocab_size)

        model = model_on_meta(config)
        account = collect_weights(model, low_res=low_part, high_res=high_part, text=text_part, seed=seed)
        config.preprocessing = save_processor(
            folder,
            model,
            tokenizer,
            chat_template=chat_template,
            image_token=image_token,
            canvas=canvas,
            low_res=low_part,
            high_res=high_part,
        )
        config.save_pretrained(folder)
        save_generation_config(folder, text_part, config, tokenizer, chat_template=chat_template)
        parts = _entries(model, low_part, high_part, high_res_init, text_part)
        write_model_card(folder, name=output.name, parts=parts, dropped=account.dropped)
        write_weights(folder, account.streams, dtype=values_dtype, shard_bytes=shard_bytes, progress=progress)
        shutil.rmtree(scratch, ignore_errors=True)
    return output


def _open_high_res(high_res: str | Path | None, high_res_init: str | Path | None) -> Part | None:
    if high_res is not None:
        return open_part(high_res)
    if high_res_init is not None and Path(high_res_init).is_dir():
        return open_part(high_res_init, weights=False)
    return None


def _open_text(text: str | Path, gguf_file: str | None, scratch: Path, dtype: torch.dtype) -> Part:
    """Open the language model; a GGUF file is converted into `scratch` first."""
    found = find_gguf(text) if gguf_file is None else _named_gguf(text, gguf_file)
    if found is None:
        return open_part(text)
    folder, file_name = found
    convert_gguf(folder, file_name, scratch, dtype=dtype)
    return dataclasses.replace(open_part(scratch), name=file_name, card=read_card(folder))


def _named_gguf(text: str | Path, name: str) -> tuple[Path, str]:
    """Return folder and name of a GGUF file in a folder or on the Hub."""
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise ValueError(f"{folder.name} has no file {name!r}.")
        return (folder / name).parent, Path(name).name
    repo_id, _, revision = str(text).partition("@")
    return Path(hf_hub_download(repo_id, name, revision=revision or None)).parent, Path(name).name


# Settings that describe the part's own checkpoint file and have no meaning in another checkpoint.
_FOREIGN_KEYS = {"architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "id2label", "label2id"}


def _config(
    low: Part,
    high: Part | None,
    high_res_init: str | Path | None,
    text: Part,
    options: Mapping[str, Any],
    *,
    dtype: torch.dtype,
) -> FilaConfig:
    high_config = None
    if high is not None:
        high_config = _high_res_config(high)
    elif high_res_init is not None:
        high_config = preset_config(str(high_res_init))
    chosen: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()
    }
    config = FilaConfig(
        vision_config=declared(vit_config(low)),
        high_res_vision_config=None if high_config is None else declared(high_config),
        text_config=declared(text_config(text)),
        **chosen,
    )
    config.architectures = ["FilaForConditionalGeneration"]
    config.auto_map = dict(AUTO_MAP)
    for part in (config, config.vision_config, config.high_res_vision_config, config.text_config):
        if part is not None:
            part.dtype = dtype
    return config


def _check_kinds(low: Part, text: Part) -> None:
    """Check, before any file is read, that the low-res part is a vision tower and the text part is not."""
    low_type, text_type = low.config.get("model_type"), text.config.get("model_type")
    accepted = vit_types(LOW_RES_TOWERS)
    swapped = (
        f" The text part {text.name} is a {text_type!r}: were `low_res` and `text` swapped?"
        if text_type in [*accepted, *vit_types(HIGH_RES_TOWERS)]
        else ""
    )
    if low_type not in accepted:
        raise ValueError(
            f"The low-res part {low.name} has model_type {low_type!r}; it must be one of {accepted}.{swapped}"
        )
    if swapped:
        raise ValueError(f"The text part must be a language model.{swapped}")


def _high_res_config(part: Part) -> PreTrainedConfig:
    if is_convnext(part):
        return convnext_config(part)
    model_type, accepted = part.config.get("model_type"), vit_types(HIGH_RES_TOWERS)
    if model_type not in accepted:
        raise ValueError(
            f"The high-res part {part.name} has model_type {model_type!r} and no weights in timm's names; it must be "
            f"'convnext', 'convnextv2', a timm ConvNeXt or one of {accepted}."
        )
    return vit_config(part)


def declared(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings that a part's config class declares; other entries of its file are dropped."""
    declared = {field.name for field in dataclasses.fields(config)} - _FOREIGN_KEYS
    values = {
        key: value for key, value in config.to_diff_dict().items() if key in declared and not key.startswith("_")
    }
    if options := getattr(config, "tower_options", None):
        values["tower_options"] = options
    return {**values, "model_type": config.model_type}


def _entries(
    model: FilaForConditionalGeneration, low: Part, high: Part | None, high_res_init: str | Path | None, text: Part
) -> list[PartEntry]:
    entries = [_entry("low-res tower", low)]
    if high is not None and high.tensors:
        entries.append(_entry("high-res tower", high))
    elif model.config.high_res_vision_config is not None:
        sizes = high.name if high is not None else high_res_init
        entries.append(PartEntry("high-res tower", f"random weights in the sizes of {sizes}"))
    entries.append(_entry("language model", text))
    fusion = model.model.vision_tower.fusion
    if fusion.taps or fusion.final_stages or next(fusion.parameters(), None) is not None:
        entries.append(PartEntry("fusion", f"new weights, `{model.config.fusion['type']}`"))
    entries.append(PartEntry("connector", f"new weights, `{model.config.connector['type']}`"))
    if (streams := model.model.injection) is not None:
        layers = ", ".join(map(str, sorted(streams.before)))
        entries.append(PartEntry("injection", f"new weights, streams before layers {layers} of the language model"))
    return entries


def _entry(role: str, part: Part) -> PartEntry:
    source = str(part.card.get("fila_source", part.name))
    return PartEntry(role, source, trained=True, license=part.license, note=part.card.get("fila_note", ""))


def stored_dtype(part: Part) -> torch.dtype:
    """Return the widest dtype among the part's stored tensors."""
    stored = {tensor.dtype for tensor in part.tensors.values()}
    return next((dtype for dtype in DTYPES.values() if dtype in stored), torch.bfloat16)


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """Return the dtype of a name, or None for None; raise `ValueError` for all but 16- and 32-bit floats."""
    if dtype is None:
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"`dtype` must be one of {sorted(DTYPES)}; got {name!r}.")
    return DTYPES[name]
