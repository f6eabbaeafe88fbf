# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Asking: what is streamed is what was generated, and what cannot be opened is named."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

import fila
from fila.cli.ask import ask, choose_device, load_checkpoint, open_images
from fila.processing.image_input import ImageInputError
from tests.helpers import TOKENS_PER_TILE, random_image


def test_ask_streams_what_generate_returns(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = load_checkpoint(checkpoint, device="cpu")
    images = [random_image(53, 97), random_image(19, 23)]
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": "What now?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    tokens = model.generate(**inputs, max_new_tokens=7, do_sample=False)
    expected = processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    answer = ask(model, processor, images, "What now?", max_new_tokens=7)
    assert capsys.readouterr().out == answer.text + "\n"
    assert answer.text == expected
    assert answer.num_new_tokens == tokens.shape[1] - inputs["input_ids"].shape[1]
    assert answer.num_prompt_tokens == inputs["input_ids"].shape[1]
    assert answer.num_image_tokens == 8 * TOKENS_PER_TILE
    assert 0 < answer.first_token_seconds <= answer.seconds


def test_ask_tells_what_it_costs(checkpoint: str) -> None:
    model, processor = load_checkpoint(checkpoint, device="cpu")
    lines: list[str] = []
    ask(model, processor, [random_image(53, 97)], "Why?", max_new_tokens=3, say=lines.append)
    assert lines[0].startswith(f"prompt: {5 * TOKENS_PER_TILE} image tokens (2 x 2 tiles) + ")
    assert lines[1].startswith("answer: 3 tokens, the first after ")


def test_ask_samples_the_same_twice_with_one_seed(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = load_checkpoint(checkpoint, device="cpu")
    images = [random_image(29, 31)]
    texts = [
        ask(model, processor, images, "Go.", max_new_tokens=11, temperature=5.0, seed=seed).text for seed in (3, 3, 4)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_ask_keeps_a_literal_image_token_of_the_question_as_text(checkpoint: str) -> None:
    model, processor = load_checkpoint(checkpoint, device="cpu")
    answer = ask(model, processor, [random_image(20, 24)], "What is <image>?", max_new_tokens=1)
    assert answer.num_image_tokens == 3 * TOKENS_PER_TILE


def test_open_images_names_the_file(image: str, broken: dict[str, str]) -> None:
    with pytest.raises(ImageInputError, match=r"^Image 1 \(.*zero.png\) has no bytes"):
        open_images([image, broken["zero"]])
    with pytest.raises(ImageInputError, match=r"^Image 0 \(.*truncated.png\) cannot be decoded"):
        open_images([broken["truncated"], image])
    with pytest.raises(ImageInputError, match=r"^Image 0 \(.*text.png\) is no image PIL can open"):
        open_images([broken["text"]])
    with pytest.raises(ImageInputError, match=r"^Image 1 '.*missing.png' does not exist"):
        open_images([image, broken["missing"]])


def test_choose_device_rejects_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="`device` must be one that torch knows, such as cpu or cuda; got 'abacus'"):
        choose_device("abacus")


def test_choose_device_rejects_one_that_is_not_here() -> None:
    with pytest.raises(ValueError, match="`device` must be one that this machine has; 'meta' cannot be used: "):
        choose_device("meta")


def test_load_checkpoint_names_cut_weights(checkpoint: str, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cut is damaged: model\.safetensors .* is truncated"):
        load_checkpoint(str(folder), device="cpu")


def test_choose_device_takes_a_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")


def test_load_checkpoint_rejects_an_unknown_dtype(checkpoint: str) -> None:
    with pytest.raises(ValueError, match=r"`dtype` must be one of \['auto', 'float32', .*; got 'float7'"):
        load_checkpoint(checkpoint, dtype="float7")


def test_load_checkpoint_casts(checkpoint: str) -> None:
    model, _ = load_checkpoint(checkpoint, device="cpu", dtype="bfloat16")
    assert model.dtype == torch.bfloat16


def test_float16_is_computed_in_float32_on_a_cpu() -> None:
    folder = str(Path(fila.__file__).parent / "assets" / "default_model")
    assert load_checkpoint(folder, device="cpu")[0].dtype == torch.float32
    assert load_checkpoint(folder, device="cpu", dtype="float16")[0].dtype == torch.float16


def test_load_checkpoint_rejects_another_model_type(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a checkpoint of model type 'llama'; this command needs 'fila'"):
        load_checkpoint(str(tmp_path))
