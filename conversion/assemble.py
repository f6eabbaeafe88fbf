# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Assemble a checkpoint from a low-res tower, a high-res tower and a language model.

Tensors stream from the parts' files to the output's, a piece at a time; the only weights ever held in memory are the new ones
(fusion, connector). The output is written beside its destination and renamed when it is complete.
"""

import json
import math
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from .gguf_text import convert_gguf, find_gguf
from .key_rules import Rule, Transform, apply_rules, check_targets, forward_shape
from .model_card import PartEntry, write_model_card
from .new_weights import initial_weights, model_on_meta, stored_shapes
from .part import Part, open_part, read_json, read_license
from .remote_code import CONFIG_AUTO_MAP, IMAGE_PROCESSOR_AUTO_MAP, PROCESSOR_AUTO_MAP, copy_remote_code
from .rules_high_res import high_res_config, high_res_rules, normalization, preset_config
from .rules_low_res import low_res_config, low_res_rules
from .rules_text import text_config, text_rules
from .safetensors_file import TensorStream, write_file
from .streams import ExtendedTensor, NewTensor, TransformedTensor
from .tokens import add_image_token, choose_chat_template, ensure_pad_token, padded_vocabulary

logger = logging.get_logger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass
class Weights:
    """What will be written: target key to values, and where each came from."""

    streams: dict[str, TensorStream] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def add_part(self, part: Part, rules: list[Rule], *, extended: Mapping[str, int]) -> None:
        """Add what the rules make of a part; `extended` gives the rows that some targets must have."""
        plan = apply_rules(part.tensors, rules, name=part.name)
        for move in plan.moves:
            stored = part.tensors[move.source]
            if not stored.dtype.is_floating_point or stored.dtype.itemsize < 2:
                raise ValueError(
                    f"{part.name}: {move.source!r} has dtype {stored.dtype}, so the part is quantized. Assemble from its "
                    "full-precision original, and quantize the result."
                )
            stream: TensorStream = stored
            if isinstance(move.rule, Transform):
                shape = forward_shape(move.rule, stored.shape)
                stream = TransformedTensor(stored, move.rule.forward, shape)
            elif (new_rows := extended.get(move.target, 0) - stored.shape[0] if stored.shape else 0) > 0:
                stream = ExtendedTensor(stored, new_rows)
            self.streams[move.target] = stream
            self.origin[move.target] = f"{part.name}, {move.source!r}"
        reasons: dict[str, int] = {}
        for reason in plan.dropped.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        for reason, count in reasons.items():
            logger.info(f"{part.name}: {count} tensors left behind: {reason}.")

    def add_new(self, values: Mapping[str, torch.Tensor]) -> None:
        """Add weights that no part has."""
        for key, tensor in values.items():
            self.streams[key] = NewTensor(tensor)
            self.origin[key] = "the model's own initial values"


def assemble(
    low_res: str | Path,
    high_res: str | Path | None,
    text: str | Path,
    output: str | Path,
    *,
    high_res_init: str | Path | None = None,
    text_gguf_file: str | None = None,
    fusion: Mapping[str, Any] | None = None,
    connector: Mapping[str, Any] | None = None,
    canvas: Mapping[str, Any] | None = None,
    vision_feature_layer: int = -2,
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
        low_res: CLIP checkpoint: a folder, or `owner/name[@revision]` on the Hub.
        high_res: ConvNeXt checkpoint, in transformers', timm's or open_clip's names; `None` with `high_res_init`, or for a
            single-tower model.
        text: Language-model checkpoint, or a GGUF file.
        output: Folder to write; it must not exist unless `overwrite` is set.
        high_res_init: Start the high-res tower from random weights instead: a size such as `"convnext-femto"`, or a folder
            with a config.json. The model card calls it UNTRAINED.
        text_gguf_file: Name of a GGUF file in the Hub repository `text`.
        fusion: Option dict of the fusion; FILA's by default. `{"type": "none"}` for a single-tower model.
        connector: Option dict of the connector.
        canvas: Option dict of the canvas strategy.
        vision_feature_layer: Layer of the low-res tower that the connector reads; later ones are left behind.
        high_res_overview: What the overview receives from the high-res tower, `"pool"` or `"encode"`.
        image_token: Placeholder of an image; added to the tokenizer unless it is there.
        dtype: Of all weights: float32, bfloat16 or float16; by default what the language model is stored in.
        max_shard_size: Largest weight file, in bytes or as `"5GB"`.
        seed: Of the new weights.
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
    if high_res is None and high_res_init is None and dict(fusion or {}).get("type") != "none":
        raise ValueError(
            "There is no high-res tower. Pass `high_res`, or `high_res_init` for one with random weights, or "
            '`fusion={"type": "none"}` for a model with the low-res tower alone.'
        )
    output = Path(output)
    shard_bytes = parse_size(max_shard_size)
    with _written_atomically(output, overwrite=overwrite) as folder:
        low_part = open_part(low_res)
        high_part = _open_high_res(high_res, high_res_init)
        text_part, text_source = _open_text(text, text_gguf_file, folder / "text.partial", _parse_dtype(dtype))
        values_dtype = _parse_dtype(dtype) or _stored_dtype(text_part)

        tokenizer = AutoTokenizer.from_pretrained(text_part.folder)
        image_token_id = add_image_token(tokenizer, image_token)
        ensure_pad_token(tokenizer)
        template = _chat_template(tokenizer, image_token)
        config = _config(
            low_part,
            high_part if high_part is not None else high_res_init,
            text_part,
            fusion=dict(fusion) if fusion else None,
            connector=dict(connector) if connector else None,
            vision_feature_layer=vision_feature_layer,
            high_res_overview=high_res_overview,
            image_token_id=image_token_id,
        )
        config.text_config.vocab_size = padded_vocabulary(tokenizer, config.text_config.vocab_size)
        _set_dtype(config, values_dtype)

        model = model_on_meta(config)
        weights = _collect(model, config, low_part, high_part, text_part, seed=seed)
        expected = stored_shapes(model)
        check_targets({key: stream.shape for key, stream in weights.streams.items()}, expected, origin=weights.origin)
        ordered = [(key, weights.streams[key]) for key in expected]
        _write_weights(folder, ordered, dtype=values_dtype, shard_bytes=shard_bytes, progress=progress)

        config.save_pretrained(folder)
        _save_processor(folder, config, model, tokenizer, template, canvas, image_token, low_part, high_part)
        _generation_config(text_part, config, tokenizer, template).save_pretrained(folder)
        copy_remote_code(folder)
        parts = _part_entries(low_part, high_part, high_res_init, text_part, text_source, config)
        write_model_card(folder, name=output.name, parts=parts)
        shutil.rmtree(folder / "text.partial", ignore_errors=True)
    return output


@contextmanager
def _written_atomically(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder beside `output` that becomes it if the block succeeds and vanishes if not."""
    occupied = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if occupied and not overwrite:
        raise FileExistsError(f"{output} exists. Choose another output, or pass `overwrite` to replace it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    partial, replaced = output.with_name(f".{output.name}.{mark}.partial"), output.with_name(f".{output.name}.{mark}.old")
    partial.mkdir()
    try:
        yield partial
        if occupied:
            output.rename(replaced)
        try:
            partial.replace(output)
        except OSError:
            if occupied:
                replaced.rename(output)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if replaced.is_dir():
        shutil.rmtree(replaced)
    else:
        replaced.unlink(missing_ok=True)


def _open_high_res(high_res: str | Path | None, high_res_init: str | Path | None) -> Part | None:
    if high_res is not None:
        return open_part(high_res)
    if high_res_init is not None and Path(high_res_init).is_dir():
        return open_part(high_res_init, weights=False)
    return None


def _open_text(
    text: str | Path, gguf_file: str | None, scratch: Path, dtype: torch.dtype | None
) -> tuple[Part, tuple[str, str | None]]:
    """Open the language model, converting a GGUF file first; also give what to call it and its licence."""
    found = find_gguf(text)
    if gguf_file is not None and found is None:
        found = Path(hf_hub_download(str(text), gguf_file)).parent, Path(gguf_file).name
    if found is None:
        part = open_part(text)
        return part, (part.name, part.license)
    folder, file_name = found
    convert_gguf(folder, file_name, scratch, dtype=dtype or torch.bfloat16)
    return open_part(scratch), (file_name, read_license(folder))


def _config(low: Part, high: "Part | str | Path | None", text: Part, **settings: Any) -> Any:
    from fila.modeling.configuration_fila import FilaConfig

    if isinstance(high, Part):
        high_config = high_res_config(high)
    else:
        high_config = preset_config(str(high)) if high is not None else None
    settings = {name: value for name, value in settings.items() if value is not None}
    config = FilaConfig(
        vision_config=_plain(low_res_config(low)),
        high_res_vision_config=None if high_config is None else _plain(high_config),
        text_config=_plain(text_config(text)),
        **settings,
    )
    config.architectures = ["FilaForConditionalGeneration"]
    config.auto_map = dict(CONFIG_AUTO_MAP)
    return config


# Bookkeeping of the part's own checkpoint, and names of places that would outlive them in the new one.
_FOREIGN_KEYS = {"architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "id2label", "label2id"}


def _plain(config: Any) -> dict[str, Any]:
    """A part's config as a dict without bookkeeping."""
    values = config.to_diff_dict() | {"model_type": config.model_type}
    return {key: value for key, value in values.items() if key not in _FOREIGN_KEYS and not key.startswith("_")}


def _set_dtype(config: Any, dtype: torch.dtype) -> None:
    for part in (config, config.vision_config, config.high_res_vision_config, config.text_config):
        if part is not None:
            part.dtype = dtype


def _chat_template(tokenizer: Any, image_token: str) -> str:
    from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE

    template = choose_chat_template(tokenizer, image_token, default=DEFAULT_CHAT_TEMPLATE)
    if template == DEFAULT_CHAT_TEMPLATE:
        tokenizer.add_tokens(list(CHATML_TOKENS), special_tokens=True)
    return template


# Of the default template; a language model without a prompt format gets them as new tokens.
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


def _collect(model: Any, config: Any, low: Part, high: Part | None, text: Part, *, seed: int) -> Weights:
    """Account for every tensor of the parts and the model."""
    weights = Weights()
    weights.add_part(low, low_res_rules(config.vision_config, num_layers=config.num_vision_layers), extended={})
    new_modules = ["model.vision_tower.fusion", "model.multi_modal_projector"]
    if high is not None and high.tensors:
        num_stages = len(model.model.vision_tower.high_res_tower.encoder.stages)
        rules = high_res_rules(high, config.high_res_vision_config, num_stages=num_stages)
        weights.add_part(high, rules, extended={})
    elif config.high_res_vision_config is not None:
        new_modules.append("model.vision_tower.high_res_tower")

    rows = config.text_config.vocab_size
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    extended = {name: rows for name, weight in model.named_parameters() if id(weight) in embeddings}
    rules = text_rules(base_prefix=_base_prefix(config.text_config), tied=config.tie_word_embeddings)
    weights.add_part(text, rules, extended=extended)
    weights.add_new(initial_weights(model, new_modules, seed=seed))
    return weights


def _base_prefix(config: Any) -> str:
    """Name of the base model inside the causal language model, `model` for LLaMA."""
    model_class = AutoModelForCausalLM._model_mapping[type(config)]
    return str(getattr(model_class, "base_model_prefix", "model"))


def _write_weights(
    folder: Path, tensors: list[tuple[str, TensorStream]], *, dtype: torch.dtype, shard_bytes: int, progress: bool
) -> None:
    """Write one file, or shards and their index."""
    sizes = {key: math.prod(stream.shape) * dtype.itemsize for key, stream in tensors}
    shards: list[list[tuple[str, TensorStream]]] = [[]]
    filled = 0
    for key, stream in tensors:
        if shards[-1] and filled + sizes[key] > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append((key, stream))
        filled += sizes[key]
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{index:05d}-of-{len(shards):05d}.safetensors" for index in range(1, len(shards) + 1)]
        index = {
            "metadata": {"total_size": sum(sizes.values()), "total_parameters": sum(sizes.values()) // dtype.itemsize},
            "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key, _ in shard},
        }
        _write_json(folder / "model.safetensors.index.json", index)
    bar = tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, desc="writing weights", disable=not progress)
    with bar:
        for name, shard in zip(names, shards, strict=True):
            write_file(folder / name, shard, dtype=dtype, on_bytes=bar.update)


def _save_processor(
    folder: Path,
    config: Any,
    model: Any,
    tokenizer: Any,
    template: str,
    canvas: Mapping[str, Any] | None,
    image_token: str,
    low: Part,
    high: Part | None,
) -> None:
    from fila.processing.image_processing_fila import FilaImageProcessorPil
    from fila.processing.processing_fila import FilaProcessor

    side = config.vision_config.image_size
    high_side = config.high_res_tile_size
    settings: dict[str, Any] = {
        "size": {"height": side, "width": side},
        "high_res_size": None if high_side is None else {"height": high_side, "width": high_side},
        **normalization(low),
    }
    if canvas is not None:
        settings["canvas"] = dict(canvas)
    if high is not None:
        settings |= {f"high_res_{name}": value for name, value in normalization(high).items()}
    processor = FilaProcessor(
        FilaImageProcessorPil(**settings),
        tokenizer,
        chat_template=template,
        tokens_per_tile=model.model.multi_modal_projector.tokens_per_tile(config.patch_grid),
        image_token=image_token,
    )
    processor.save_pretrained(folder)
    saved = read_json(folder / "processor_config.json")
    saved["auto_map"] = PROCESSOR_AUTO_MAP
    saved["image_processor"]["auto_map"] = IMAGE_PROCESSOR_AUTO_MAP
    _write_json(folder / "processor_config.json", saved)


def _generation_config(text: Part, config: Any, tokenizer: Any, template: str) -> GenerationConfig:
    """The language model's own generation settings, stopping where the chat template ends a turn."""
    if (text.folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(text.folder)
    else:
        generation = GenerationConfig.from_model_config(config.text_config)
    stops = generation.eos_token_id
    stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
    candidates = [tokenizer.eos_token_id]
    if CHATML_TOKENS[1] in template:
        candidates.append(tokenizer.convert_tokens_to_ids(CHATML_TOKENS[1]))
    stops = [*stops, *(stop for stop in dict.fromkeys(candidates) if stop is not None and stop not in stops)]
    generation.eos_token_id = stops[0] if len(stops) == 1 else stops or None
    generation.pad_token_id = tokenizer.pad_token_id
    return generation


def _part_entries(
    low: Part,
    high: Part | None,
    high_res_init: str | Path | None,
    text: Part,
    text_source: tuple[str, str | None],
    config: Any,
) -> list[PartEntry]:
    entries = [PartEntry("low-res tower", low.name, low.license, True, _card_note(low))]
    if high is not None and high.tensors:
        entries.append(PartEntry("high-res tower", high.name, high.license, True, _card_note(high)))
    elif config.high_res_vision_config is not None:
        name = high.name if high is not None else str(high_res_init)
        entries.append(PartEntry("high-res tower", f"random weights, sizes of {name}", None, False))
    entries.append(PartEntry("language model", text_source[0], text_source[1], True))
    if config.fusion["type"] != "none":
        entries.append(PartEntry("fusion", f"`{config.fusion['type']}`, new weights", None, False))
    entries.append(PartEntry("connector", f"`{config.connector['type']}`, new weights", None, False))
    return entries


def _card_note(part: Part) -> str:
    """What a part says about itself in `fila_note` of its config."""
    return str(part.config.get("fila_note", ""))


def _stored_dtype(text: Part) -> torch.dtype:
    dtypes = {tensor.dtype for tensor in text.tensors.values()}
    known = [dtype for dtype in DTYPES.values() if dtype in dtypes]
    return known[0] if known else torch.bfloat16


def _parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype in DTYPES.values():
        return dtype if isinstance(dtype, torch.dtype) else None
    if str(dtype) not in DTYPES:
        raise ValueError(f"`dtype` must be one of {sorted(DTYPES)}; got {dtype!r}.")
    return DTYPES[str(dtype)]


def parse_size(size: int | str) -> int:
    """Bytes of a size such as `"5GB"`.

    Raises:
        ValueError: If it is not a positive size.

    Example:
        >>> parse_size("5GB"), parse_size("2 MiB"), parse_size(7)
        (5000000000, 2097152, 7)
    """
    match = re.fullmatch(r"\s*(\d+)\s*([KMG]?I?B?)\s*", str(size).upper())
    if match is None or match[2] not in _UNITS or int(match[1]) < 1:
        raise ValueError(f"`max_shard_size` must be a number of bytes or a size such as '5GB'; got {size!r}.")
    return int(match[1]) * _UNITS[match[2]]


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
