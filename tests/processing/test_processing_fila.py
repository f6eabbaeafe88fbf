# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The processor: placeholders, counts per sample, chat templates, masks, saving."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import DEFAULT_CHAT_TEMPLATE, FilaProcessor
from tests.cases import each
from tests.helpers import random_image, tiny_tokenizer

# 1x3, 3x1 and 2x2 tiles of 14 pixels, each with an overview; five tokens per view.
WIDE, TALL, SQUARE = random_image(9, 41, seed=1), random_image(40, 7, seed=2), random_image(20, 23, seed=3)
TOKENS = {"wide": 20, "tall": 20, "square": 25}


def runs(processor: FilaProcessor, input_ids: Any) -> list[int]:
    """Lengths of the uninterrupted runs of placeholders."""
    is_image = [int(token) == processor.image_token_id for token in input_ids]
    return [len(run) for run in "".join("x" if bit else " " for bit in is_image).split()]


# --- placeholders ---


def test_each_image_becomes_one_run(processor: FilaProcessor) -> None:
    out = processor(text=["a <image> b <image>"], images=[WIDE, SQUARE], return_tensors="pt")
    assert runs(processor, out["input_ids"][0]) == [TOKENS["wide"], TOKENS["square"]]
    assert set(out) == set(processor.model_input_names)


def test_a_single_prompt_and_image_need_no_lists(processor: FilaProcessor) -> None:
    out = processor(text="a <image>", images=WIDE)
    assert runs(processor, out["input_ids"][0]) == [TOKENS["wide"]]


def test_a_stack_of_images_is_a_flat_list(processor: FilaProcessor) -> None:
    out = processor(text="<image> <image>", images=np.stack([np.asarray(WIDE)] * 2))
    assert runs(processor, out["input_ids"][0]) == [TOKENS["wide"]] * 2


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_mix_numbers_of_images(processor: FilaProcessor, side: str) -> None:
    prompts = ["just text", "<image>", "x <image> y <image> z"]
    out = processor(
        text=prompts, images=[[], [SQUARE], [WIDE, TALL]], padding=True, padding_side=side, return_tensors="pt"
    )
    assert [runs(processor, row) for row in out["input_ids"]] == [[], [25], [20, 20]]
    assert out["tile_grid"].tolist() == [[2, 2], [1, 3], [3, 1]]
    padded_edge = out["attention_mask"][0, 0 if side == "left" else -1]
    assert padded_edge == 0


@pytest.mark.parametrize("images", [None, [], [[], []]], ids=["none", "empty", "empty per sample"])
def test_text_only_batches_have_no_image_tensors(processor: FilaProcessor, images: Any) -> None:
    out = processor(text=["one", "two"], images=images)
    assert set(out) == {"input_ids", "attention_mask"}


def test_images_alone_are_processed(processor: FilaProcessor) -> None:
    assert set(processor(images=[WIDE])) == set(processor.image_processor.model_input_names)


def test_two_images_side_by_side_are_two_placeholders(processor: FilaProcessor) -> None:
    out = processor(text="<image><image>", images=[WIDE, TALL])
    assert runs(processor, out["input_ids"][0]) == [40]  # no text between the runs


def test_token_type_ids_mark_the_placeholders(processor: FilaProcessor) -> None:
    out = processor(
        text=["a <image>", "b"], images=[[WIDE], []], padding=True, return_mm_token_type_ids=True, return_tensors="pt"
    )
    assert torch.equal(out["mm_token_type_ids"], (out["input_ids"] == processor.image_token_id).long())
    assert out["mm_token_type_ids"].sum(-1).tolist() == [20, 0]


def test_replacement_offsets_point_at_the_runs(processor: FilaProcessor) -> None:
    out = processor(text=["a <image> b <image>"], images=[WIDE, SQUARE], return_text_replacement_offsets=True)
    first, second = out["text_replacement_offsets"][0]
    assert (first["span"], first["new_span"]) == ((2, 9), (2, 2 + 7 * 20))
    assert (second["span"], second["new_span"]) == ((12, 19), (145, 145 + 7 * 25))
    assert second["replacement"] == "<image>" * 25


def test_processing_kwargs_of_a_call_change_the_run(processor: FilaProcessor) -> None:
    out = processor(text="<image>", images=WIDE, images_kwargs={"canvas": {"type": "single"}})
    assert runs(processor, out["input_ids"][0]) == [5]


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_run_does_not_depend_on_the_kind_of_tensors(processor: FilaProcessor, kind: str | None) -> None:
    # The wide image's padding views, beside an image with more views, are not counted.
    out = processor(text=["<image>", "<image>"], images=[[WIDE], [SQUARE]], padding=True, return_tensors=kind)
    assert [runs(processor, row) for row in out["input_ids"]] == [[20], [25]]


# --- counts without pixels ---


@pytest.mark.nightly  # a slow twin, at full size
def test_100_000_sizes_are_counted_in_seconds(processor: FilaProcessor) -> None:
    draw = random.Random(0)
    sizes = [(draw.randint(1, 120), draw.randint(1, 120)) for _ in range(50_000)]
    sizes += [(draw.randint(1, 20_000), draw.randint(1, 20_000)) for _ in range(50_000)]
    start = time.process_time()  # which a busy machine does not stretch
    counted = processor._get_num_multimodal_tokens(image_sizes=sizes)
    seconds = time.process_time() - start
    plan = processor.image_processor.plan
    assert counted.num_image_tokens == [plan(height, width).num_views * 5 for height, width in sizes]
    assert counted.num_image_patches == [1] * 100_000
    assert seconds < 20  # 2 on the machine this was written on


def test_counts_equal_the_placeholders(processor: FilaProcessor) -> None:
    draw = random.Random(1)
    sizes = [(1, 1), (1, 99), (99, 1), (14, 14), (14, 15), (28, 28), (29, 28), (14, 42), (14, 43)]
    sizes += [(draw.randint(1, 60), draw.randint(1, 60)) for _ in range(60)]
    out = processor(text=["<image>"] * len(sizes), images=[[random_image(*size)] for size in sizes])
    counted = processor._get_num_multimodal_tokens(image_sizes=sizes)
    assert [sum(runs(processor, row)) for row in out["input_ids"]] == counted["num_image_tokens"]


def test_counts_follow_the_kwargs_of_a_call(processor: FilaProcessor) -> None:
    counted = processor._get_num_multimodal_tokens(image_sizes=[(9, 41)], images_kwargs={"canvas": {"type": "single"}})
    assert counted.num_image_tokens == [5]


def test_counts_of_no_sizes_are_none(processor: FilaProcessor) -> None:
    assert processor._get_num_multimodal_tokens().num_image_tokens is None
    assert processor._get_num_multimodal_tokens(image_sizes=[]).num_image_tokens == []


# --- disagreements ---


@each(
    ("text", "images", "message"),
    [
        (["a", "<image>"], [[WIDE], []], r"sample 0 has 0 <image> tokens and 1 images\."),
        (["<image>", "a <image>"], [[WIDE], []], r"sample 1 has 1 <image> tokens and 0 images\."),
        (["<image>", "<image><image>"], [[WIDE], [WIDE]], r"sample 1 has 2 <image> tokens and 1 images\."),
        (["a", "<image>"], None, r"sample 1 has 1 <image> tokens and 0 images\."),
        ("<image>", [[]], r"sample 0 has 1 <image> tokens and 0 images\."),
        (["<image>"], [[WIDE], []], r"there are 2 lists of images for 1 prompts\."),
        (
            ["<image>", "b"],
            [WIDE, TALL],
            r"the prompts hold \[1, 0\] \(in all 1\), and a flat list of 2 was passed\. Pass one list of images",
        ),
        ("a", WIDE, r"the prompts hold \[0\] \(in all 0\), and a flat list of 1 was passed"),
    ],
    ids=["extra image", "missing image", "too few", "no images", "empty lists", "too many lists", "flat", "single"],
)
def test_counts_that_disagree_are_refused(processor: FilaProcessor, text: Any, images: Any, message: str) -> None:
    rule = "The number of <image> tokens in the prompts should be the same as the number of images passed: "
    with pytest.raises(ValueError, match=rule + message):
        processor(text=text, images=images)


def test_nothing_to_process_is_refused(processor: FilaProcessor) -> None:
    with pytest.raises(ValueError, match=r"FilaProcessor needs text, images or both\."):
        processor()


@pytest.mark.parametrize("text", [3, [["a"]], [None]])
def test_text_of_another_kind_is_refused(processor: FilaProcessor, text: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"must be a string or a list of strings|not iterable"):
        processor(text=text, images=[[WIDE]])


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_into_a_run_is_refused(processor: FilaProcessor, side: str) -> None:
    processor.tokenizer.truncation_side = side
    prompt = f"{'a' * 9}<image>{'b' * 9}"
    with pytest.raises(ValueError, match=r"Mismatch in .image. token count between text and .input_ids."):
        processor(text=prompt, images=WIDE, truncation=True, max_length=25)


def test_truncation_beside_a_run_is_allowed(processor: FilaProcessor) -> None:
    out = processor(text=f"<image>{'b' * 99}", images=WIDE, truncation=True, max_length=23)
    assert len(out["input_ids"][0]) == 23
    assert runs(processor, out["input_ids"][0]) == [20]


def test_padding_to_a_length(processor: FilaProcessor) -> None:
    out = processor(text="<image>", images=WIDE, padding="max_length", max_length=31, padding_side="left")
    assert len(out["input_ids"][0]) == 31
    assert out["attention_mask"][0] == [0] * 11 + [1] * 20


# --- construction and saving ---


def test_image_token_must_be_an_added_token(image_processor: FilaImageProcessorPil) -> None:
    tokenizer = tiny_tokenizer()
    del tokenizer._special_tokens_map["image_token"]  # the tokenizer names none, the argument decides
    with pytest.raises(
        ValueError, match=r"The image token '<img>' must be an added token of the tokenizer; add it with"
    ):
        FilaProcessor(image_processor, tokenizer, image_token="<img>")


def test_image_token_can_be_another_one(image_processor: FilaImageProcessorPil) -> None:
    tokenizer = tiny_tokenizer()
    del tokenizer._special_tokens_map["image_token"]
    tokenizer.add_tokens(["<img>"], special_tokens=True)
    processor = FilaProcessor(image_processor, tokenizer, image_token="<img>", tokens_per_tile=5)
    out = processor(text="<image> is text, <img> is not", images=WIDE)
    assert out["input_ids"][0].count(tokenizer.convert_tokens_to_ids("<img>")) == 20
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}]
    prompt = processor.apply_chat_template(messages, DEFAULT_CHAT_TEMPLATE)
    assert prompt == "<|im_start|>user\n<img>What?<|im_end|>\n"


def test_image_token_is_not_the_pad_token(image_processor: FilaImageProcessorPil) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "<image>"
    with pytest.raises(ValueError, match="Padding must not be images; the tokenizer's pad token is the image token"):
        FilaProcessor(image_processor, tokenizer)


@pytest.mark.parametrize("value", [0, -1, 1.5, "5"])
def test_tokens_per_tile_must_be_positive(value: Any) -> None:
    with pytest.raises(ValueError, match=r".tokens_per_tile. must be a positive integer; got "):
        FilaProcessor(tokens_per_tile=value)


def test_unknown_arguments_are_refused(
    image_processor: FilaImageProcessorPil, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(TypeError, match="Unexpected keyword argument tokens_per_title"):
        FilaProcessor(image_processor, tokenizer, tokens_per_title=5)


def test_settings_are_saved(processor: FilaProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert (saved["tokens_per_tile"], saved["image_token"], saved["processor_class"]) == (
        5,
        "<image>",
        "FilaProcessor",
    )
    assert saved["image_processor"]["canvas"] == {"type": "fila"}
    written = (tmp_path / "chat_template.jinja").read_text()
    assert written.endswith(DEFAULT_CHAT_TEMPLATE)
    assert written == processor.chat_template == FilaProcessor.from_pretrained(tmp_path).chat_template
    assert not (tmp_path / "preprocessor_config.json").exists()
    loaded = FilaImageProcessorPil.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.image_processor.to_dict()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("canvass", "canvas"), ("max_image_token", "max_image_tokens"), ("image_tokn_policy", "image_token_policy")],
)
def test_misspelt_settings_of_a_loaded_processor_are_refused(
    processor: FilaProcessor, tmp_path: Path, name: str, meant: str
) -> None:
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"no setting `{name}`; did you mean `{meant}`"):
        FilaProcessor.from_pretrained(tmp_path, **{name: 5})
    FilaProcessor.from_pretrained(tmp_path, padding_side="left", revision="main", max_image_tokens=5)


def test_batches_are_padded_on_the_left_whatever_the_tokenizer_was_saved_with(
    image_processor: FilaImageProcessorPil, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    FilaProcessor(image_processor, tokenizer, tokens_per_tile=5).save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    saved = json.loads(config.read_text())
    assert saved["padding_side"] == "left"
    config.write_text(json.dumps(saved | {"padding_side": "right"}))  # as older checkpoints have it
    batch = FilaProcessor.from_pretrained(tmp_path)(text=["ab", "c"], padding=True)
    assert batch["attention_mask"] == [[1, 1], [0, 1]]
    named = FilaProcessor.from_pretrained(tmp_path, padding_side="right")
    assert named(text=["ab", "c"], padding=True)["attention_mask"] == [[1, 1], [1, 0]]


def test_an_empty_batch_is_refused(processor: FilaProcessor) -> None:
    with pytest.raises(ValueError, match=r"`text` must hold at least one prompt; got an empty list"):
        processor(text=[], return_tensors="pt")
