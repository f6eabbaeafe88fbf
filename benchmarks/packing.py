# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Useful tokens and time of training steps: batches as they come, batches of one resolution, and packed rows.

    python benchmarks/packing.py

A skewed set: 160 samples with none, one or two images of many sizes, and answers of 20 to 700 letters, most of them
short. A small model with random weights, float32, on the CPU. Every way sees as many tokens per step on average. The
share of useful tokens counts what is no padding; the time is of forward and backward passes, per 1,000 useful tokens.
Prints rows of a Markdown table.
"""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fila.training.collator import FilaCollator
from fila.training.data import sample_sizes
from fila.training.packing import PackedSamples
from fila.training.sampler import ResolutionSampler, resolution_key
from tests.helpers import random_image, tiny_model, tiny_processor
from tests.training.samples import conversation

SAMPLES, LENGTH, BATCH, STEPS = 160, 1024, 8, 6


def skewed_samples() -> list[dict[str, Any]]:
    """Make the set."""
    draw = random.Random(0)
    samples = []
    for number in range(SAMPLES):
        images = [
            random_image(draw.randint(20, 120), draw.randint(20, 120), seed=number)
            for _ in range(draw.choice([0, 1, 1, 1, 2]))
        ]
        samples.append(conversation(images, "What is it?", "x" * min(700, round(20 * draw.paretovariate(0.8)))))
    return samples


def batches_of(way: str, samples: list[dict[str, Any]], processor: Any) -> Iterator[list[Any]]:
    """Yield the lists that the collator gets."""
    if way == "packed":
        packed = PackedSamples(samples, processor, LENGTH)
        for index in random.Random(0).sample(range(len(packed)), len(packed)):
            yield [packed[index]]
        return
    order: Any = random.Random(0).sample(range(len(samples)), len(samples))
    if way == "one resolution":
        order = ResolutionSampler(
            [resolution_key(sizes, processor.image_processor) for sizes in sample_sizes(samples)], BATCH
        )
    order = [*order]
    for start in range(0, len(order), BATCH):
        yield [samples[index] for index in order[start : start + BATCH]]


def main() -> None:
    """Print a row for each way."""
    torch.manual_seed(0)
    processor, samples = tiny_processor(), skewed_samples()
    text = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8}
    model = tiny_model(
        text_config={"model_type": "llama", "vocab_size": 262, "max_position_embeddings": 4096, **text}
    ).train()
    print("| batches | tokens in a batch | useful | ms per step | ms per 1,000 useful tokens |")
    print("|---|---|---|---|---|")
    for way in ("as they come", "one resolution", "packed"):
        collator, room, useful, taken, batches = FilaCollator(processor), 0, 0, 0, 0
        seconds: list[float] = []
        for number, samples_of_batch in enumerate(batches_of(way, samples, processor)):
            batch = collator(samples_of_batch)
            mask = batch.get("attention_mask")
            real = batch["input_ids"].numel() if mask is None else int(mask.sum())
            useful, batches = useful + real, batches + 1
            room += LENGTH if mask is None else mask.numel()
            if number < STEPS:
                start = time.perf_counter()
                model(**batch).loss.backward()
                model.zero_grad()
                seconds.append(time.perf_counter() - start)
                taken += real
        step = 1000 * sum(seconds) / len(seconds)
        print(
            f"| {way} | {room / batches:.0f} | {useful / room:.3f} | {step:.0f} | {1e6 * sum(seconds) / taken:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
