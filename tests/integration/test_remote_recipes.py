# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A tiny checkpoint of every recipe answers alike with the code beside it, where `fila` cannot be imported."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila import FilaForConditionalGeneration
from fila.recipes import load_recipe, processor, recipe_names
from tests.conversion.originals import CLIP, CONVNEXT_SIZES, ORIGINALS, Original, tiny_original
from tests.conversion.parts import byte_tokenizer
from tests.helpers import assert_close, random_image, randomise

TINY_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
BRAVE = [
    {"model_type": "dinov2", **TINY_VIT},
    {"model_type": "siglip_vision_model", "intermediate_size": 19, **TINY_VIT},
]
# Recipes whose checkpoints nothing imports, or whose systems share another's tiny sizes.
OTHERS = {
    "brave": Original(
        "",
        0,
        "brave",
        CLIP,
        BRAVE[0],
        {
            "extra_vision_configs": BRAVE[1:],
            "high_res_tile_size": 28,
            "fusion": {
                "type": "multi_encoder_queries",
                "hidden_size": 32,
                "key_size": 48,
                "num_layers": 4,
                "num_heads": 4,
            },
        },
    ),
    "cogvlm2-video-base": ORIGINALS["cogvlm2-video"],
    "fila": Original("", 0, "fila", CLIP, CONVNEXT_SIZES, {"high_res_tile_size": 128}),
    "fila-deep": Original(
        "", 0, "fila-deep", CLIP, CONVNEXT_SIZES, {"high_res_tile_size": 128}, text={"num_hidden_layers": 5}
    ),
    "llava-hr-x-13b": ORIGINALS["llava-hr"],
    "mini-gemini": ORIGINALS["mini-gemini-hd"],
    "open-autoglm": Original("", 0, "open-autoglm", CLIP),
    "videollama2-7b": ORIGINALS["videollama2"],
    "videollama2-7b-16f": ORIGINALS["videollama2"],
    "videollama2.1-7b-16f": replace(ORIGINALS["videollama2"], low_res=TINY_VIT, model_type="qwen2"),
}
ANSWER = """
import torch
from PIL import Image

def answer(auto_model, auto_processor, folder, **options):
    model = auto_model.from_pretrained(folder, dtype=torch.float32, **options).eval()
    processor = auto_processor.from_pretrained(folder, **options)
    image = Image.open(folder + "/image.png")
    inputs = processor(text=processor.image_token + " a", images=image, return_tensors="pt")
    with torch.inference_mode():
        return type(model).__module__, model(**inputs).logits[0, -3:].tolist()
"""
CODE = """
import json, sys
sys.modules["fila"] = None  # importing it raises ImportError
from transformers import AutoModelForImageTextToText, AutoProcessor
from answer import answer
autos = AutoModelForImageTextToText, AutoProcessor
found = {name: answer(*autos, name, trust_remote_code=True) for name in sys.argv[1:]}
print(json.dumps(found))
"""


def write_recipe(name: str, folder: Path, **text: Any) -> None:
    """Write a tiny checkpoint of a recipe, and an image; `text` are settings of its language model."""
    original = replace(OTHERS.get(name) or ORIGINALS[name], recipe=name)
    config, recipe = tiny_original(original), load_recipe(name)
    tokens = byte_tokenizer(recipe.special_tokens, None)
    tokens.add_tokens([recipe.processor["image_token"]], special_tokens=True)
    if "video_processor" in recipe.processor:
        video_token = recipe.processor.get("video_token", "<video>")
        tokens.add_tokens([video_token], special_tokens=True)
        config.video_token_id = tokens.convert_tokens_to_ids(video_token)
    for setting, value in {**text, "vocab_size": len(tokens)}.items():
        setattr(config.text_config, setting, value)
    config.image_token_id = tokens.convert_tokens_to_ids(recipe.processor["image_token"])
    model = FilaForConditionalGeneration(config)
    randomise(model)
    model.save_pretrained(folder)
    made = processor(recipe, config, tokens, image_processor=original.images)
    made.save_pretrained(folder)
    random_image(40, 70).save(folder / "image.png")


def test_every_recipe_answers_alike_without_fila(tmp_path: Path) -> None:
    for name in recipe_names():
        write_recipe(name, tmp_path / name)
    (tmp_path / "answer.py").write_text(ANSWER, encoding="utf-8")
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.run(
        [sys.executable, "-c", CODE, *recipe_names()],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    remote = json.loads(process.stdout.splitlines()[-1])
    scope: dict[str, object] = {}
    exec(ANSWER, scope)
    for name, (module, logits) in remote.items():
        assert module.startswith("transformers_modules."), name
        _, installed = scope["answer"](AutoModelForImageTextToText, AutoProcessor, str(tmp_path / name))  # type: ignore[operator]
        assert_close(torch.tensor(logits), torch.tensor(installed))
