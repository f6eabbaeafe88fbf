# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VideoLLaMA 2 @ c0bb03a: connectors, and prompts split at their placeholders."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fila.modeling.connector_linear import LinearConnector
from fila.modeling.connector_mlp import MlpConnector
from fila.modeling.connector_stc import (
    SpatialConvConnector,
    SpatialPoolConnector,
    StcConnector,
    StcV35Connector,
    StpConnector,
)
from fila.modeling.video_clips import clip_tokens
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from fila.processing.video_processing_fila import FilaVideoProcessor
from tests.goldens import numbers_in
from tests.parity.golden import Comparison, Golden, load, read, text_width

CLASSES = {
    "STCConnector": StcConnector,
    "STCConnectorV35": StcV35Connector,
    "STPConnector": StpConnector,
    "SpatialConv": SpatialConvConnector,
    "SpatialPool": SpatialPoolConnector,
}


def weights(golden: Golden) -> dict[str, torch.Tensor]:
    """The original weights of a file whose keys are paths."""
    return {key.removeprefix("sd/"): golden[key] for key in golden.tensors if key.startswith("sd/")}


def connector(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    config = json.loads(golden.metadata["config"])
    options = {name: config[name] for name in ("downsample", "depth", "mlp_depth") if name in config}
    ours = CLASSES[config["cls"]](text_width(config["hidden_size"]), input_size=config["mm_hidden_size"], **options)
    load(ours, weights(golden))
    for key in sorted(key for key in golden.tensors if key.startswith("in/x")):
        case = key.removeprefix("in/x")
        x = golden[key]
        grid = (x.shape[2], x.shape[3]) if x.ndim == 5 else (math.isqrt(x.shape[2]),) * 2
        clips = x.flatten(2, 3) if x.ndim == 5 else x
        for chunk in (None, 1):
            tokens = [
                clip_tokens(ours, lambda first, last, clip=clip: clip[first:last], len(clip), grid, chunk)
                for clip in clips
            ]
            yield f"y{case} chunk {chunk}", torch.stack(tokens), golden[f"out/y{case}"]
    if "mid/s1" in golden:
        yield from _stages(ours, golden)


def _stages(ours: StcConnector, golden: Golden) -> Iterator[Comparison]:
    """The maps between the stages, for the first input."""
    found: dict[str, torch.Tensor] = {}
    for name in ("s1", "sampler", "s2"):
        module = ours.get_submodule(name)
        module.register_forward_hook(lambda module, inputs, output, name=name: found.__setitem__(name, output))
    first = numbers_in(golden.tensors, r"in/x(\d+)")[0]
    x = golden[f"in/x{first}"]
    maps = ours.s1(x.flatten(0, 1).permute(0, 3, 1, 2)).unflatten(0, x.shape[:2])
    (piece,) = ours.window.pieces(x.shape[1], None)
    ours._sampled(maps, piece)
    for name, value in found.items():
        yield name, value, golden[f"mid/{name}"]


def projector(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    config = json.loads(golden.metadata["config"])
    sizes = {"config": text_width(config["hidden_size"]), "input_size": config["mm_hidden_size"]}
    state, numbers = weights(golden), numbers_in(golden.tensors, r"in/x(\d+)")
    match = re.fullmatch(r"mlp(\d+)x_gelu", config["projector"])
    means = [("mean", f"y{number}", number) for number in numbers]
    for over_time, out, number in (*means, ("each", "per_frame", numbers[0])):
        x = golden[f"in/x{number}"]
        grid = (1, x.shape[2])
        if match is None:
            ours = LinearConnector(**sizes, over_time=over_time)
            load(ours, {f"linear.{key}": value for key, value in state.items()})
        else:
            ours = MlpConnector(**sizes, depth=int(match[1]), over_time=over_time)
            names = {key: f"linear_{int(key.split('.')[0]) // 2 + 1}.{key.split('.')[1]}" for key in state}
            load(ours, {names[key]: value for key, value in state.items()})
        if f"out/{out}" not in golden:  # the source takes the mean for `linear` and `mlp2x_gelu` alone
            continue
        tokens = [clip_tokens(ours, lambda first, last, clip=clip: clip[first:last], len(clip), grid, 3) for clip in x]
        yield out, torch.stack(tokens).reshape(golden[f"out/{out}"].shape), golden[f"out/{out}"]


def residual_block(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    width = json.loads(golden.metadata["config"])["channels"]
    ours = MlpConnector(text_width(width), input_size=width, norm="input", residual=True)
    names = {"pre_norm": "input_norm", "proj.0": "linear_1", "proj.2": "linear_2"}
    state = {
        ".".join((names[key.rpartition(".")[0]], key.rpartition(".")[2])): x for key, x in weights(golden).items()
    }
    load(ours, state)
    for key in sorted(key for key in golden.tensors if key.startswith("in/x")):
        yield key, ours(golden[key], (1, golden[key].shape[1])), golden[key.replace("in/x", "out/y")]


# The ids that stand for a whole image, video or sound in the original; ours are counted placeholders.
MARKS = {"<image>": -200, "<video>": -201, "<audio>": -202}


def letters(prompts: dict[str, str]) -> PreTrainedTokenizerFast:
    """The recorded tokenizer: a letter's id is its code point. The marks have the ids behind all letters."""
    last = max(255, *(ord(letter) for prompt in prompts.values() for letter in prompt))
    vocabulary = {chr(code) if not 0xD800 <= code < 0xE000 else f"<{code}>": code for code in range(last + 1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="\0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="\0")
    made.add_tokens(list(MARKS), special_tokens=True)
    return made


def tokenizer_split(path: Path) -> Iterator[Comparison]:
    """Each run of placeholders is read back as the one id that the original has in its place."""
    golden = read(path)
    prompts = json.loads(golden.metadata["prompts"])
    tokenizer = letters(prompts)
    size = {"height": 2, "width": 2}
    processor = FilaProcessor(
        FilaImageProcessorPil(size=size, high_res_size=None, canvas={"type": "single"}),
        tokenizer,
        tokens_per_tile=3,
        video_processor=FilaVideoProcessor(size=size),
        clip_tokens={"per_clip": 3},
    )
    marks = {tokenizer.convert_tokens_to_ids(token): mark for token, mark in MARKS.items()}
    for name, prompt in prompts.items():
        images = [Image.new("RGB", (2, 2))] * prompt.count("<image>")
        videos = [np.zeros((1, 2, 2, 3), np.uint8)] * prompt.count("<video>")
        given = {key: value for key, value in {"images": images, "videos": videos}.items() if value}
        found = processor(text=prompt, **given, add_special_tokens=False)["input_ids"][0]
        ids: list[int] = []
        while found:
            length = 3 if found[0] in marks and marks[found[0]] != MARKS["<audio>"] else 1
            assert found[:length] == found[:1] * length, name
            ids.append(marks.get(found[0], found[0]))
            found = found[length:]
        yield name, torch.tensor(ids), golden[f"out/ids_{name}"]
