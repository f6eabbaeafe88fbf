# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""README and docs/use.md: what a script of transformers does, on the shipped model, with nothing set."""

from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    GenerationMixin,
    TextIteratorStreamer,
    TextStreamer,
    pipeline,
)

import fila
from tests.promises.shipped import MODEL, answers, asked, blocks, chat, load, page, prepare

FIRST, SECOND = asked()[0], asked()[-1]


@pytest.mark.parametrize("written", ["README.md", "docs/use.md"])
def test_python_block_answers_right(written: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number, question, answer = FIRST
    (code,) = blocks(written)
    exec(code.replace("What is the total amount due?", question), {})
    assert number == 0
    assert capsys.readouterr().out.strip() == answer


@pytest.mark.parametrize("name", ["my-checkpoint", str(MODEL)])
def test_checkpoint_is_a_folder(name: str, folder: Path) -> None:
    model, processor = load(name)
    assert type(model) is fila.FilaForConditionalGeneration
    assert type(processor) is fila.FilaProcessor
    assert type(AutoModel.from_pretrained(name)) is fila.FilaModel


def test_every_question_of_the_bundled_pages_is_answered_right() -> None:
    model, processor = load()
    found = [answers(model, processor, prepare(processor, chat(q, page(n)))) for n, q, _ in asked()]
    assert found == [[answer] for _, _, answer in asked()]


def test_questions_of_different_length_in_one_batch() -> None:
    model, processor = load()
    chosen = [asked()[0], asked()[3], asked()[1]]
    assert len({len(question) for _, question, _ in chosen}) == 3
    inputs = prepare(processor, [chat(question, page(number)) for number, question, _ in chosen], padding=True)
    assert answers(model, processor, inputs) == [answer for _, _, answer in chosen]


def mixed() -> list[tuple[list[dict[str, Any]], str | None]]:
    """Conversations about pages on different canvases, and one without an image, with the answers where known."""
    sizes = {page(number).size for number, _, _ in (FIRST, SECOND)}
    assert len(sizes) == 2
    wide = page(0).crop((0, 0, page(0).width, page(0).height // 3))
    return [
        (chat(FIRST[1], page(FIRST[0])), FIRST[2]),
        (chat("What is the Total?"), None),
        (chat(SECOND[1], page(SECOND[0])), SECOND[2]),
        (chat("What is the Total?", wide), None),
    ]


def test_mixed_sizes_and_text_in_one_batch() -> None:
    model, processor = load(dtype="float32")
    inputs = prepare(processor, [conversation for conversation, _ in mixed()], padding=True)
    alone = [answers(model, processor, prepare(processor, [conversation]))[0] for conversation, _ in mixed()]
    assert answers(model, processor, inputs) == alone
    assert [found for found, (_, answer) in zip(alone, mixed(), strict=True) if answer] == [FIRST[2], SECOND[2]]


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_pipeline_answers_a_list_of_conversations(batch_size: int) -> None:
    pipe = pipeline("image-text-to-text", model=str(MODEL))
    found = pipe(
        text=[conversation for conversation, _ in mixed()],
        batch_size=batch_size,
        max_new_tokens=20,
        return_full_text=False,
    )
    texts = [result[0]["generated_text"] if isinstance(result, list) else result["generated_text"] for result in found]
    right = [(text.strip(), answer) for text, (_, answer) in zip(texts, mixed(), strict=True) if answer]
    assert [text for text, _ in right] == [answer for _, answer in right]


def test_pipeline_takes_images_and_a_prompt() -> None:
    pipe = pipeline("image-text-to-text", model=str(MODEL))
    number, question, answer = FIRST
    found = pipe(images=page(number), text=f"<image>{question}", max_new_tokens=1)
    assert set(found[0]) >= {"generated_text"}
    (result,) = pipe(text=chat(question, page(number)), max_new_tokens=20, return_full_text=False)
    assert result["generated_text"].strip() == answer


def test_several_images_in_one_prompt() -> None:
    model, processor = load()
    inputs = prepare(processor, chat("What is the Total?", page(0), page(1)))
    assert len(inputs["pixel_values"]) == 2
    assert len(answers(model, processor, inputs, max_new_tokens=3)) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_other_number_formats_answer_right(dtype: str) -> None:
    model, processor = load(dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    number, question, answer = FIRST
    assert answers(model, processor, prepare(processor, chat(question, page(number)))) == [answer]


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}], ids=str)
def test_device_map_answers_right(device_map: Any) -> None:
    model, processor = load(device_map=device_map)
    number, question, answer = FIRST
    inputs = prepare(processor, chat(question, page(number))).to(model.device)
    assert answers(model, processor, inputs) == [answer]


def test_streamers_give_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    model, processor = load()
    number, question, answer = FIRST
    inputs = prepare(processor, chat(question, page(number)))
    settings: Any = {"skip_prompt": True, "skip_special_tokens": True}
    model.generate(**inputs, max_new_tokens=20, streamer=TextStreamer(processor.tokenizer, **settings))
    assert capsys.readouterr().out.strip() == answer
    streamer = TextIteratorStreamer(processor.tokenizer, **settings)
    thread = Thread(target=model.generate, kwargs={**inputs, "max_new_tokens": 20, "streamer": streamer})
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces).strip() == answer


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3},
        {"num_beams": 2, "num_return_sequences": 2},
        {"cache_implementation": "static"},
        {"use_cache": False},
        {"prompt_lookup_num_tokens": 3},
        {"do_sample": True, "top_k": 1},
    ],
    ids=lambda options: "+".join(options),
)
def test_ways_of_generating_answer_right(options: dict[str, Any]) -> None:
    model, processor = load(dtype="float32")
    number, question, answer = FIRST
    inputs = prepare(processor, chat(question, page(number)))
    assert answers(model, processor, inputs, **options)[0] == answer


def test_prompt_in_chunks_is_answered_right_or_refused() -> None:
    model, processor = load(dtype="float32")
    number, question, answer = FIRST
    inputs = prepare(processor, chat(question, page(number)))
    if hasattr(GenerationMixin, "_supports_mm_encoder_outputs"):
        assert answers(model, processor, inputs, prefill_chunk_size=100) == [answer]
    else:
        with pytest.raises(ValueError, match="`prefill_chunk_size` cannot go with images on this version"):
            answers(model, processor, inputs, prefill_chunk_size=100)


def test_compiled_model_answers_right() -> None:
    model, processor = load(dtype="float32")
    number, question, answer = FIRST
    inputs = prepare(processor, chat(question, page(number)))
    with torch.no_grad():
        expected = model(**inputs).logits
        found = torch.compile(model, backend="eager")(**inputs).logits
    # the same operations in another order; measured 0 on one machine
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert processor.decode(found[0, -1].argmax()) == answer[0]


def test_conversation_of_several_turns() -> None:
    model, processor = load()
    (n, first, answer), (_, second, other) = asked()[:2]
    turns = chat(first, page(n))
    said = answers(model, processor, prepare(processor, turns))
    turns += [{"role": "assistant", "content": [{"type": "text", "text": said[0]}]}]
    turns += [{"role": "user", "content": [{"type": "text", "text": second}]}]
    assert [*said, *answers(model, processor, prepare(processor, turns))] == [answer, other]


def test_saved_copy_answers_the_same(tmp_path: Path) -> None:
    model, processor = load()
    model.save_pretrained(tmp_path, max_shard_size="4MB")
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    model, processor = load(str(tmp_path))
    number, question, answer = FIRST
    assert answers(model, processor, prepare(processor, chat(question, page(number)))) == [answer]


def test_model_is_found_without_naming_a_class() -> None:
    config = AutoModelForImageTextToText.from_pretrained(str(MODEL)).config
    assert config.model_type == "fila"
