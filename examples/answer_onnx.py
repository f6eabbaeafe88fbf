# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Ask an exported checkpoint about an image: ONNX Runtime runs all weights, greedily and with a cache.

python examples/answer_onnx.py export CHECKPOINT FOLDER
python examples/answer_onnx.py answer FOLDER IMAGE QUESTION
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from fila.conversion.export_onnx import export_onnx


def export(checkpoint: str, folder: str) -> None:
    """Write three graphs and the processor: fila's of the vision half, transformers' of the embedding and the rest."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval().requires_grad_(False)
    if model.config.shared_positions:
        raise ValueError("The graph counts positions by itself; those of a model with `shared_positions` are others.")
    processor = AutoProcessor.from_pretrained(checkpoint)
    if processor.prune is not None:
        raise ValueError(f"The graphs read whole prompts, and the processor has `prune` {processor.prune['type']!r}.")
    export_onnx(checkpoint, Path(folder, "vision.onnx"))
    processor.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    ids = torch.ones(1, 10, dtype=torch.int64)
    embed = model.get_input_embeddings()
    cache = model(inputs_embeds=embed(ids[:, :7]), use_cache=True)[1]
    step = {"inputs_embeds": embed(ids[:, 7:]), "attention_mask": ids, "cache": cache}  # 7 old tokens and 3 new
    free = torch.export.Dim.AUTO
    lengths = {"inputs_embeds": {1: free}, "attention_mask": {1: free}, "cache": [{2: free}] * (2 * len(cache))}
    _write(embed, {"input": ids}, {"input": {1: free}}, Path(folder, "embedding.onnx"))
    _write(model, step, lengths, Path(folder, "language.onnx"))


def _write(part: Any, inputs: dict[str, Any], sizes: dict[str, Any], path: Path) -> None:
    exported: Any = OnnxExporter().export(part, inputs, OnnxConfig(dynamic_shapes=sizes))
    program = exported.program if hasattr(exported, "program") else exported.model
    onnx_ir.save(program, path, external_data=f"{path.name}.data")


def answer(folder: str, image: Any, question: str, *, max_new_tokens: int = 64) -> str:
    """Answer one question about an image: a path, a URL or a PIL image."""
    vision, embedding, language = (
        onnxruntime.InferenceSession(Path(folder, f"{name}.onnx")) for name in ("vision", "embedding", "language")
    )
    processor = AutoProcessor.from_pretrained(folder)
    rules = json.loads(Path(folder, "generation_config.json").read_text(encoding="utf-8"))
    stops = np.atleast_1d(rules["eos_token_id"])
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="np",
    )
    ids = inputs["input_ids"]
    (embeds,) = embedding.run(None, {"input": ids})
    (tokens,) = vision.run(None, {given.name: inputs[given.name] for given in vision.get_inputs()})
    embeds[ids == processor.image_token_id] = tokens
    # an empty cache: every size that is not a number is a number of tokens
    caches = [given for given in language.get_inputs() if "cache" in given.name]
    sizes = [[size if isinstance(size, int) else 0 for size in given.shape] for given in caches]
    cache = [np.zeros(size, np.float32) for size in sizes]
    found: list[int] = []
    while len(found) < max_new_tokens:
        mask = np.ones((1, ids.shape[1] + len(found)), np.int64)
        feed = dict(zip((given.name for given in caches), cache, strict=True))
        logits, *cache = language.run(None, {"inputs_embeds": embeds, "attention_mask": mask, **feed})
        logits[..., rules["suppress_tokens"]] = -np.inf  # the placeholder
        found.append(int(logits[0, -1].argmax()))
        if found[-1] in stops:
            break
        (embeds,) = embedding.run(None, {"input": np.array([found[-1:]])})
    text: str = processor.decode(found, skip_special_tokens=True)
    return text


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(*sys.argv[2:])
    else:
        sys.stdout.write(answer(*sys.argv[2:]) + "\n")
