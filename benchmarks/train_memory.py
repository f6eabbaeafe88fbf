# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Memory of one training step on the CPU, by training stage, with and without activation checkpointing.

    python benchmarks/train_memory.py

Random weights in the sizes of SmolLM2-135M, a ViT-S/14 at 336 pixels and ConvNeXt-Femto, float32, AdamW, one image
with a question. Every row is a process of its own. "activations" is what the process has grown by after the forward
pass; freed memory goes back to the system at once (MALLOC_MMAP_THRESHOLD_). "peak" is the most that the process held
above what it held before the model was made; "estimated" is what `fila estimate --train` says without running it.
Prints rows of a Markdown table.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

ROWS = (
    # what trains, canvas, checkpointing
    ("align", "single", False),
    ("align", "single", True),
    ("align", "fila", False),
    ("align", "fila", True),
    ("finetune", "fila", False),
    ("finetune", "fila", True),
)
IMAGE_SIZE = (1000, 800)  # a page: 2 x 2 tiles and the overview
MIB = 2**20


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def measure(stage: str, canvas: str, checkpointing: bool) -> dict[str, float]:
    """Run two steps; the second one counts."""
    import torch
    from transformers.utils import logging

    from fila import FilaConfig, FilaForConditionalGeneration
    from fila.look.training_cost import TrainingPass, make_trainable, state_bytes
    from fila.processing.canvas_plan import Size
    from fila.systems.meta_model import model_on_meta

    logging.set_verbosity_error()
    torch.manual_seed(0)
    started = resident()
    config = FilaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "image_size": 336,
            "patch_size": 14,
        },
        high_res_vision_config={
            "model_type": "convnext",
            "hidden_sizes": [48, 96, 192, 384],
            "depths": [2, 2, 6, 2],
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
        image_token_id=49151,
    )
    model = FilaForConditionalGeneration(config)
    make_trainable(model, stage, checkpointing=checkpointing)
    batch = make_batch(canvas, config.image_token_id)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    found: dict[str, float] = {}
    for _ in range(2):
        before = resident()
        loss = model(**batch).loss
        found["activations"] = resident() - before
        loss.backward()
        del loss
        optimizer.step()
        optimizer.zero_grad()
    found["trained"] = sum(parameter.numel() for parameter in trained) / 1e6
    found["image tokens"] = int((batch["input_ids"] == config.image_token_id).sum())
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - started
    blank = model_on_meta(config)
    make_trainable(blank, stage, checkpointing=checkpointing)
    one = TrainingPass(blank, make_processor(canvas, config), Size(*IMAGE_SIZE), text_tokens=32)
    found["estimated"] = (state_bytes(blank) + one.count_bytes()) / MIB
    return found


def make_processor(canvas: str, config):  # type: ignore[no-untyped-def]
    """The processor of the canvas, with a tokenizer that knows the placeholder alone."""
    from fila import FilaImageProcessorPil, FilaProcessor
    from fila.look.view_settings import placeholder_tokenizer

    images = FilaImageProcessorPil(canvas={"type": canvas})
    rows, cols = config.patch_grid
    return FilaProcessor(images, placeholder_tokenizer(), tokens_per_tile=rows * cols)


def make_batch(canvas: str, image_token_id: int):  # type: ignore[no-untyped-def]
    """One blank page, 32 tokens of text, 16 of them learnt."""
    import torch
    from PIL import Image

    from fila import FilaImageProcessorPil

    processor = FilaImageProcessorPil(canvas={"type": canvas})
    height, width = IMAGE_SIZE
    batch = processor([[Image.new("RGB", (width, height), "white")]], return_tensors="pt")
    num_tokens = int(batch["view_boxes"].any(-1).sum()) * 576
    ids = torch.cat([torch.full((num_tokens,), image_token_id), torch.arange(100, 132)])[None]
    labels = torch.where(torch.arange(ids.shape[1]) < ids.shape[1] - 16, -100, ids)
    return {**batch, "input_ids": ids, "labels": labels}


def main() -> None:
    """Print the table."""
    print("| trains | canvas | checkpointing | image tokens | trained | activations | peak | estimated |")
    print("|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        found = json.loads(
            subprocess.run(
                [sys.executable, __file__, json.dumps(row)],
                env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        print(
            f"| {row[0]} | {row[1]} | {'yes' if row[2] else 'no'} | {found['image tokens']:,} "
            f"| {found['trained']:.1f} M | {found['activations']:,.0f} MiB | {found['peak']:,.0f} MiB "
            f"| {found['estimated']:,.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
