# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fila.processing.chat_template import REFUSES_TOOL_CALLS
from fila.processing.image_input import ImageInputError
from fila.processing.processing_fila import FilaProcessor
from fila.systems.chat_templates import choose_chat_template
from fila.training.collator import FilaCollator
from fila.training.loss_weight import ResolutionWeight
from tests.helpers import TOKENS_PER_TILE, random_image, tiny_processor, tiny_tokenizer
from tests.training.samples import conversation, make_sample, make_samples, text

TEXT_ONLY = {"messages": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "No image."}]}
TWO_TURNS = {
    "images": [random_image(9, 41), random_image(20, 23)],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, text("Wider? "), {"type": "image"}]},
        {"role": "assistant", "content": [text("The first.")]},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": [text("Yes.")]},
    ],
}


@pytest.fixture
def processor() -> FilaProcessor:
    return tiny_processor()


def learnt(processor: FilaProcessor, batch: dict[str, Any]) -> list[str]:
    return [processor.tokenizer.decode(row[row != -100]) for row in batch["labels"]]


def test_only_the_assistant_is_learnt(processor: FilaProcessor) -> None:
    batch = FilaCollator(processor)([TWO_TURNS, TEXT_ONLY, make_sample(3)])
    assert learnt(processor, batch) == ["The first.<|im_end|>Yes.<|im_end|>", "No image.<|im_end|>", "dd<|im_end|>"]
    supervised = batch["labels"] != -100
    assert torch.equal(batch["labels"][supervised], batch["input_ids"][supervised])
    assert not (supervised & (batch["input_ids"] == processor.image_token_id)).any()
    assert not (supervised & (batch["attention_mask"] == 0)).any()


def test_training_pads_on_the_right_and_makes_one_row_per_image(processor: FilaProcessor) -> None:
    batch = FilaCollator(processor)([TWO_TURNS, TEXT_ONLY, make_sample(3)])
    assert batch["attention_mask"][1, 0] == 1
    assert batch["attention_mask"][1, -1] == 0
    views = batch["view_boxes"].any(-1).sum(1).tolist()
    assert len(views) == 3
    assert batch["pixel_values"].shape[1] == max(views)
    placeholders = (batch["input_ids"] == processor.image_token_id).sum(1).tolist()
    assert placeholders == [sum(views[:2]) * TOKENS_PER_TILE, 0, views[2] * TOKENS_PER_TILE]


def test_a_batch_without_images_has_no_image_tensors(processor: FilaProcessor) -> None:
    assert set(FilaCollator(processor)([TEXT_ONLY, TEXT_ONLY])) == {"input_ids", "attention_mask", "labels"}


def test_prompts_end_where_the_assistant_begins(processor: FilaProcessor) -> None:
    prompts = [{**sample, "messages": sample["messages"][:-1]} for sample in (TWO_TURNS, TEXT_ONLY)]
    batch = FilaCollator(processor, generate=True)(prompts)
    assert "labels" not in batch
    assert batch["attention_mask"][1, 0] == 0
    assert batch["attention_mask"][:, -1].tolist() == [1, 1]
    ends = processor.tokenizer.batch_decode(batch["input_ids"][:, -30:])
    assert all(end.endswith("<|im_start|>assistant\n") for end in ends)


def test_samples_are_left_as_they_were(processor: FilaProcessor) -> None:
    sample = make_sample(0)
    before = repr(sample)
    FilaCollator(processor, random_scale=(0.5, 1.0))([sample])
    assert repr(sample) == before


def test_parts_as_datasets_stores_them_and_undecoded_images(processor: FilaProcessor) -> None:
    sample = make_sample(0)
    file = io.BytesIO()
    sample["images"][0].save(file, format="PNG")
    stored = {
        "images": [{"bytes": file.getvalue(), "path": None}],
        "messages": [
            {
                **message,
                "content": [{"type": p["type"], "text": p.get("text"), "image": None} for p in message["content"]],
            }
            for message in sample["messages"]
        ],
    }
    expected = FilaCollator(processor)([sample])
    found = FilaCollator(processor)([stored])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_turns_of_tools_are_read_and_calls_are_learnt(processor: FilaProcessor) -> None:
    call = {"type": "function", "function": {"name": "ocr", "arguments": {"page": 1}}}
    messages = [
        {"role": "user", "content": [{"type": "image"}, text("Total?")]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12.50"},
        {"role": "assistant", "content": "It is 12.50."},
    ]
    sample = {"images": [random_image(9, 41)], "messages": messages}
    refused(FilaCollator(processor), sample, r"Sample 1 of the batch .* has `tool_calls`, which the chat")
    written = [{**messages[1], "content": "ocr(1)", "tool_calls": None}, *messages[2:]]
    batch = FilaCollator(processor)([{**sample, "messages": [messages[0], *written]}])
    assert learnt(processor, batch) == ["ocr(1)<|im_end|>It is 12.50.<|im_end|>"]
    own = str(processor.chat_template).replace(REFUSES_TOOL_CALLS, "")
    processor.chat_template = own.replace(
        "{%- generation -%}", "{%- generation -%}{{- message.tool_calls[0].function.name if message.tool_calls -}}"
    )
    assert learnt(processor, FilaCollator(processor)([sample])) == ["ocr<|im_end|>It is 12.50.<|im_end|>"]


# --- what is refused ---


def test_tools_are_refused(processor: FilaProcessor) -> None:
    tools = [{"type": "function", "function": {"name": "ocr"}}]
    refused(
        FilaCollator(processor), {**make_sample(0), "tools": tools}, r"Sample 1 of the batch .* has `tools`, which"
    )
    unlearnt = [{**message, "loss": False} for message in make_sample(0)["messages"]]
    refused(FilaCollator(processor), {**make_sample(0), "messages": unlearnt}, r"whose `loss` is not true")
    assert FilaCollator(processor)([{**make_sample(0), "tools": []}, {**make_sample(1), "tools": None}])


def refused(collator: FilaCollator, sample: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        collator([make_sample(3), sample])


def test_a_sample_that_teaches_nothing_is_refused(processor: FilaProcessor) -> None:
    sample = {**make_sample(0), "id": "page-7"}
    sample["messages"] = sample["messages"][:1]
    match = r"Sample 1 of the batch with id 'page-7' \('Which\?'\) has nothing to learn: none of its \d+ tokens was"
    refused(FilaCollator(processor), sample, match)


def test_a_template_that_does_not_mark_the_assistant_teaches_the_same(processor: FilaProcessor) -> None:
    expected = FilaCollator(processor)([TWO_TURNS, TEXT_ONLY, make_sample(3)])
    template = str(processor.chat_template)
    processor.chat_template = template.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    found = FilaCollator(processor)([TWO_TURNS, TEXT_ONLY, make_sample(3)])
    assert processor.chat_template != template
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_template_of_a_language_model_that_was_assembled_in_teaches_its_answers(processor: FilaProcessor) -> None:
    """LLaMA 3's, as its tokenizer has it, with other control tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}{% set content = '<|im_start|>' + message['role'] + '<|end|>\n\n'+ "
        "message['content'] | trim + '<|im_end|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|end|>\n\n' }}{% endif %}"
    )
    processor.chat_template = choose_chat_template(tokenizer, "<image>")
    assert "generation %}" not in processor.chat_template
    batch = FilaCollator(processor)([TWO_TURNS, TEXT_ONLY, make_sample(3)])
    assert learnt(processor, batch) == ["The first.<|im_end|>Yes.<|im_end|>", "No image.<|im_end|>", "dd<|im_end|>"]


def test_a_template_that_neither_marks_the_assistant_nor_goes_message_by_message_is_refused(
    processor: FilaProcessor,
) -> None:
    processor.chat_template = "{{ messages | length }}{% for message in messages %}{{ message.content }}{% endfor %}"
    with pytest.raises(
        ValueError, match=r"with \{% generation %\} and \{% endgeneration %\}, or .* as message 1 shows"
    ):
        FilaCollator(processor)([TEXT_ONLY])


def test_an_image_in_an_answer_is_refused(processor: FilaProcessor) -> None:
    sample = make_sample(0)
    sample["messages"] = list(reversed(sample["messages"]))
    sample["messages"][0]["role"], sample["messages"][1]["role"] = "user", "assistant"
    match = r"Sample 1 .* must not learn tokens that stand for an image or for padding; 48 image and 0 padding tokens"
    refused(FilaCollator(processor), sample, match)


@pytest.mark.parametrize(("num_images", "num_parts"), [(0, 1), (2, 1), (1, 0)])
def test_images_and_parts_must_pair_up(processor: FilaProcessor, num_images: int, num_parts: int) -> None:
    sample = conversation([random_image(9, 9)] * num_parts, "Which?", "a")
    sample["images"] = [random_image(9, 9)] * num_images
    refused(FilaCollator(processor), sample, f"Sample 1 .* it has {num_parts} parts and {num_images} images")


@pytest.mark.parametrize(
    "messages",
    [
        None,
        {"role": ["user"], "content": ["a"]},
        [{"from": "human", "value": "a"}],
        [{"role": None, "content": "a"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": [{"text": "a"}]}],
    ],
    ids=str,
)
def test_what_is_no_conversation_is_refused(messages: Any, processor: FilaProcessor) -> None:
    match = r"Sample 1 of the batch must have `messages`, each with a `role` and a `content` that is text or a list of"
    refused(FilaCollator(processor), {"messages": messages}, match)


def test_a_batch_that_lost_its_columns_says_which_argument_keeps_them(processor: FilaProcessor) -> None:
    match = r"Sample 0 of the batch has no `messages`; its columns are \['images'\]. .* `remove_unused_columns=False`"
    with pytest.raises(ValueError, match=match):
        FilaCollator(processor)([{"images": []}])


PICTURE = random_image(20, 23)


@pytest.mark.parametrize(
    ("beside", "part"),
    [
        ({"image": PICTURE}, {"type": "image"}),
        ({"image": PICTURE, "images": None}, {"type": "image", "image": None}),
        ({}, {"type": "image", "image": PICTURE}),
        ({}, {"type": "image_url", "image_url": {"url": "PATH"}}),
        ({"images": []}, {"type": "image", "path": "PATH"}),
    ],
    ids=["column", "empty-images", "part", "image_url", "path"],
)
def test_an_image_is_bound_wherever_it_stands(
    processor: FilaProcessor, tmp_path: Path, beside: dict[str, Any], part: dict[str, Any]
) -> None:
    PICTURE.save(tmp_path / "a.png")
    sample = conversation([PICTURE], "Which?", "a")
    expected = FilaCollator(processor)([sample])
    filled = {"path": f"{tmp_path}/a.png"} if "path" in part else {"image_url": {"url": f"{tmp_path}/a.png"}}
    own = part | {key: value for key, value in filled.items() if key in part}
    content = [own, *sample["messages"][0]["content"][1:]]
    given = {**beside, "messages": [{"role": "user", "content": content}, sample["messages"][1]]}
    found = FilaCollator(processor)([given])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("columns", "content", "match"),
    [
        (
            {"image": PICTURE},
            "<image>\nWhich?",
            r'has 0 parts and 1 images. Its text has 1 "<image>", which',
        ),
        ({}, "<image>\nWhich?", r'has 0 parts and 0 images. Its text has 1 "<image>"'),
        ({}, [text("<video>"), text("Which?")], r'has 0 parts and 0 videos. Its text has 1 "<video>"'),
        ({"image": PICTURE}, "Which?", "it has 0 parts and 1 images"),
        ({"images": [PICTURE]}, [{"type": "image", "image": PICTURE}], "it has 1 parts and 2 images"),
        ({"image": PICTURE, "images": [PICTURE]}, [{"type": "image"}], "has both `image` and `images`; put all into"),
        ({"images": PICTURE}, [{"type": "image"}], "must have a list as `images`; got <PIL"),
        ({}, [{**text("Which?"), "image": PICTURE}], r"Part 0 of message 0 is of type 'text' and names \['image'\]"),
        ({}, [{"type": "audio", "url": "http://127.0.0.1/a"}], r"must be of a type among .*; got 'audio'"),
    ],
)
def test_no_image_is_lost(processor: FilaProcessor, columns: Any, content: Any, match: str) -> None:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]
    refused(FilaCollator(processor), {**columns, "messages": messages}, f"^Sample 1 of the batch .*{match}")


def test_a_tag_beside_image_parts_is_text(processor: FilaProcessor) -> None:
    sample = conversation([PICTURE], "What is <image>?", "a")
    batch = FilaCollator(processor)([sample])
    assert "What is < image>?" in processor.decode(batch["input_ids"][0])


def test_a_broken_image_is_named(processor: FilaProcessor) -> None:
    sample = {**make_sample(0), "images": [b"no image"]}
    with pytest.raises(ImageInputError, match="Image 0 of sample 1 is no image PIL can open"):
        FilaCollator(processor)([make_sample(1), sample])


# --- length ---


def test_long_text_is_cut_at_its_end(processor: FilaProcessor) -> None:
    sample = conversation([random_image(20, 50)], "Which?", "x" * 200)
    whole = FilaCollator(processor)([make_sample(3), sample])
    batch = FilaCollator(processor, max_length=137)([make_sample(3), sample])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (2, 137)
    assert torch.equal(batch["labels"], whole["labels"][:, :137])
    assert torch.equal(batch["pixel_values"], whole["pixel_values"])
    short = FilaCollator(processor, max_length=1000)([make_sample(3), sample])
    assert torch.equal(short["labels"], whole["labels"])


def test_image_tokens_are_never_cut(processor: FilaProcessor) -> None:
    sample = conversation([random_image(90, 91)], "Which?", "a")
    sample["messages"][0]["content"].reverse()
    match = r"Sample 1 .* has 108 tokens, 80 of them image tokens, and may have 90; cutting it would lose 2 of them"
    with pytest.raises(ValueError, match=match):
        FilaCollator(processor, max_length=90)([make_sample(0), sample])


def test_an_answer_behind_the_limit_is_refused(processor: FilaProcessor) -> None:
    sample = conversation([random_image(20, 50)], "Which? " * 30, "a")
    refused(FilaCollator(processor, max_length=120), sample, "or the answer lies behind `max_length` = 120")


def test_samples_over_the_limit_of_image_tokens_are_left_out_of_training_alone(processor: FilaProcessor) -> None:
    processor.image_token_policy, processor.max_image_tokens = "drop_sample", 48
    samples = [make_sample(3), make_sample(0), TEXT_ONLY, make_sample(1)]  # 80, 48, 0 and 48 image tokens
    collator = FilaCollator(processor, loss_weight=ResolutionWeight())
    found, expected = collator(samples), collator(samples[1:])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert learnt(processor, found) == ["aa<|im_end|>", "No image.<|im_end|>", "bbb<|im_end|>"]
    with pytest.raises(ValueError, match="No sample keeps the limits of image tokens"):
        collator(samples[:1])
    prompts = [{**sample, "messages": sample["messages"][:1]} for sample in samples]
    with pytest.raises(
        ValueError, match=r"Sample 0 .* is a question, which is never left out\. Image 0 .* has 80 image"
    ):
        FilaCollator(processor, generate=True)(prompts)


def test_a_prompt_is_never_cut(processor: FilaProcessor) -> None:
    sample = {**make_sample(0), "messages": make_sample(0)["messages"][:1]}
    with pytest.raises(ValueError, match=r"Sample 0 .* and may have 60; a prompt is never cut"):
        FilaCollator(processor, generate=True, max_length=60)([sample])


# --- random scale ---


def num_views(collator: FilaCollator, samples: Sequence[dict[str, Any]]) -> list[Any]:
    return [collator([sample])["high_res_sizes"].tolist() for sample in samples]


def pixels(collator: FilaCollator, samples: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    return [collator([sample])["pixel_values"] for sample in samples]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(first, second, strict=True)]


def test_random_scale_depends_on_seed_epoch_and_sample_alone(processor: FilaProcessor) -> None:
    samples = make_samples(4)
    collator = FilaCollator(processor, random_scale=(0.4, 1.5), seed=3)
    first = pixels(collator, samples)
    torch.manual_seed(7)
    assert all(same(pixels(collator, samples[::-1]), first[::-1]))
    assert all(same(pixels(pickle.loads(pickle.dumps(collator)), samples), first))
    assert not any(same(pixels(FilaCollator(processor, random_scale=(0.4, 1.5), seed=4), samples), first))
    collator.set_epoch(1)
    assert not any(same(pixels(collator, samples), first))
    collator.set_epoch(0)
    assert all(same(pixels(collator, samples), first))
    assert all(same(pixels(collator.for_evaluation(), samples), pixels(FilaCollator(processor), samples)))


def test_workers_that_live_on_see_the_epoch(processor: FilaProcessor) -> None:
    samples: Any = make_samples(2)
    collator = FilaCollator(processor, random_scale=(0.4, 1.5))
    loader = DataLoader(samples, batch_size=1, collate_fn=collator, num_workers=1, persistent_workers=True)
    found = []
    for epoch in (0, 1):
        collator.set_epoch(epoch)
        found.append([batch["pixel_values"] for batch in loader])
    assert all(same(found[1], pixels(collator, samples)))
    assert not any(same(found[0], found[1]))


def test_random_scale_keeps_its_bounds_and_scales_a_samples_images_alike(
    processor: FilaProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = processor.apply_chat_template

    def spy(messages: Any, **kwargs: Any) -> Any:
        parts = [p for conv in messages for m in conv if not isinstance(m["content"], str) for p in m["content"]]
        sizes.append([part["image"].size for part in parts if part["type"] == "image"])
        return original(messages, **kwargs)

    monkeypatch.setattr(processor, "apply_chat_template", spy)
    image = np.asarray(random_image(100, 200))
    for number in range(40):
        sample = conversation([image, Image.fromarray(image[:50])], "Which?", f"{number}")
        FilaCollator(processor, random_scale=(0.5, 2.0))([sample])
    factors = [width / 200 for (width, _), _ in sizes]
    assert all(0.5 <= factor <= 2 for factor in factors)
    assert len(set(factors)) > 30
    assert 10 <= sum(factor < 1 for factor in factors) <= 30  # as often smaller as larger
    assert all(abs(first[1] / 2 - second[1]) <= 1 for first, second in sizes)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (1.0, 0.5), (-1.0, 1.0), (0.5,)])
def test_random_scale_needs_rising_positive_bounds(processor: FilaProcessor, bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"`random_scale` must be two rising positive factors; got"):
        FilaCollator(processor, random_scale=bounds)


def test_weights_are_those_of_the_images(processor: FilaProcessor) -> None:
    sample = conversation([random_image(64, 64), np.asarray(random_image(128, 256))], "Which?", "a")
    batch = FilaCollator(processor, loss_weight=ResolutionWeight())([sample, TEXT_ONLY])
    assert batch["loss_weight"].tolist() == pytest.approx([(1.75 + 1.2928932188134525) / 2, 1.0])
    assert "loss_weight" not in FilaCollator(processor)([sample])
