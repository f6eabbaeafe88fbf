# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Does vLLM answer as `generate` does? Run by `make serve-check`, in an environment of its own.

A tiny random checkpoint is saved, answered by transformers' greedy `generate` and by vLLM's engine on the CPU, in
float32, with no remote code. Every token id must be equal: for one image, for two images with different canvases, for
text alone, for all of them in one batch, and for images that vLLM cached in the company of another neighbour; and all
that both when vLLM chooses its implementation and when `transformers` is asked for. Exits with 1 at any difference.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.helpers

import torch
import transformers

from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.helpers import random_image, randomise, tiny_config, tiny_processor

NEW_TOKENS = 12
# (height, width) of canvases of different shapes and different numbers of views
IMAGES = {"wide": (40, 110), "tall": (123, 37), "small": (20, 25)}
CASES = [
    ("text only", "Say something.", []),
    ("one image", "<image>What is this?", ["wide"]),
    ("two images, different canvases", "<image>and<image>Compare.", ["wide", "tall"]),
    ("the same two, other order", "<image>and<image>Compare.", ["tall", "wide"]),
    ("two views and one", "First <image>, then <image>?", ["small", "tall"]),
]


def save_checkpoint(folder: str) -> None:
    """Save a random model whose answers depend on its images; vLLM's CPU attention wants heads of 32 channels."""
    processor = tiny_processor()
    processor.chat_template = DEFAULT_CHAT_TEMPLATE
    text = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": len(processor.tokenizer),
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 4,
    }
    model = transformers.AutoModelForImageTextToText.from_config(tiny_config(text_config=text))
    randomise(model, std=0.2, seed=3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def generate(folder: str, prompts: list[tuple[str, list]]) -> list[list[int]]:
    """Answer each prompt alone with transformers."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model.generation_config.eos_token_id = None  # answers of one length
    answers = []
    for text, images in prompts:
        inputs = processor(text=[text], images=images or None, return_tensors="pt")
        outputs = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        answers.append(outputs[0, inputs["input_ids"].shape[1] :].tolist())
    return answers


def serve(engine, prompts: list[tuple[str, list]]) -> list[list[int]]:
    """Answer the prompts with vLLM, in one call."""
    from vllm import SamplingParams

    requests = [
        {"prompt": text, "multi_modal_data": {"image": images}} if images else {"prompt": text}
        for text, images in prompts
    ]
    greedy = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
    return [list(answer.outputs[0].token_ids) for answer in engine.generate(requests, greedy, use_tqdm=False)]


def main() -> int:
    """Print both engines' tokens and say whether all are equal."""
    import vllm

    import fila  # noqa: F401  (this process builds the checkpoint; vLLM's own processes find the entry point)

    images = {name: random_image(*size, seed=seed) for seed, (name, size) in enumerate(IMAGES.items())}
    prompts = [(text, [images[name] for name in names]) for _, text, names in CASES]
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder)
        expected = generate(folder, prompts)
        served = {}
        for implementation in ("auto", "transformers"):
            engine = vllm.LLM(
                folder,
                model_impl=implementation,
                dtype="float32",
                enforce_eager=True,
                max_model_len=1024,
                max_num_seqs=4,
                limit_mm_per_prompt={"image": 2},
            )
            served[f"{implementation}, alone"] = [serve(engine, [prompt])[0] for prompt in prompts]
            served[f"{implementation}, batched"] = serve(engine, prompts)
            del engine

    print(f"\nvllm {vllm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    right = True
    for number, (name, _, _) in enumerate(CASES):
        print(f"{name}\n    {'generate':22s}           {' '.join(map(str, expected[number]))}")
        for way, answers in served.items():
            equal = answers[number] == expected[number]
            right &= equal
            print(f"    {way:22s} {'equal' if equal else 'DIFFERENT':9s} {' '.join(map(str, answers[number]))}")
    if len({tuple(answer) for answer in expected}) != len(CASES):
        print("two cases have the same answer, so the comparison proves nothing")
        right = False
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
