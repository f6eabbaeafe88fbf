# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Qwen3-VL: streams between layers of the language model alone, which is Qwen3 where positions count tokens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from fila.modeling.injection_layers import extend_layers, run_with_streams
from tests.parity.golden import Comparison, read
from tests.parity.granite4 import text_model


def language_model(path: Path) -> Iterator[Comparison]:
    golden = read(path)
    layers = [after + 1 for after in json.loads(golden.metadata["after_layers"])]
    model = text_model("qwen3", json.loads(golden.metadata["config"]), golden)
    inputs = {"inputs_embeds": golden["inputs_embeds"]}
    if "without" in golden:
        yield "without", model(**inputs).last_hidden_state, golden["without"]
    extend_layers(model, layers)
    read_by = {}
    for number in layers:  # what a layer reads is what its predecessor made, and the stream

        def keep(module: object, args: tuple, number: int = number) -> None:  # type: ignore[type-arg]
            read_by[number - 1] = args[0]

        model.layers[number].register_forward_pre_hook(keep)
    streams = [golden[f"feature.{layer - 1}"] for layer in layers]
    places = golden["visual_pos_masks"].bool()[..., None]
    outputs = run_with_streams(model, layers, places, streams, **inputs)
    yield "last_hidden_state", outputs.last_hidden_state, golden["last_hidden_state"]
    for key in golden.tensors:
        if found := re.fullmatch(r"after_layer\.(\d+)", key):
            yield key, read_by[int(found[1])], golden[key]
