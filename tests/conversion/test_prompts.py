# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Imported checkpoints are prompted as their weights were trained: the formats restated here by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoProcessor

from fila.conversion.import_checkpoint import import_checkpoint
from fila.systems.recipes import check_recipe, load_recipe
from tests.conversion.originals import ORIGINALS, write_original
from tests.conversion.parts import CHATML, PLACES, byte_tokenizer, edit_json
from tests.goldens import rows_of

POLITE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
VICUNA = POLITE + " USER: <image>\nWhat? ASSISTANT: This.</s>USER: Why? ASSISTANT:"
SHANGHAI = load_recipe("internvl2").prompt["system_message"]
LEO = load_recipe("leo").prompt["system_message"]


def chat_ml(system: str, image: str, end: str = "<|im_end|>") -> str:
    turns = [f"system\n{system}", f"user\n{image}\nWhat?", "assistant\nThis.", "user\nWhy?"]
    return "".join(f"<|im_start|>{turn}{end}" for turn in turns) + "<|im_start|>assistant\n"


def imported(folder: Path, name: str, *, own: str | None = None, pictures: str = "", **entries: Any) -> Any:
    """Processor of an imported tiny original; its tokenizer has the template `own` and the image token `pictures`."""
    original = ORIGINALS[name]
    write_original(folder / "theirs", original)
    edit_json(folder / "theirs" / "config.json", **entries)
    tokens = byte_tokenizer(load_recipe(original.recipe).special_tokens, own)
    tokens.save_pretrained(folder / "theirs")
    if pictures:
        edit_json(folder / "theirs" / "tokenizer_config.json", extra_special_tokens={"image_token": pictures})
    return AutoProcessor.from_pretrained(
        import_checkpoint(folder / "theirs", folder / "ours", progress=False, **original.settings)
    )


def prompt_of(processor: Any, *messages: tuple[str, Any], **kwargs: Any) -> Any:
    turns = [{"role": role, "content": content} for role, content in messages]
    return processor.apply_chat_template(turns, **{"tokenize": False, "add_generation_prompt": True, **kwargs})


ASK = ("user", [{"type": "image"}, {"type": "text", "text": "What?"}])
DIALOGUE = (ASK, ("assistant", "This."), ("user", "Why?"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, VICUNA) for name in ("llava-hr", "eagle-x4", "mini-gemini-hd", "llava-uhd", "llava-next")),
        ("internvl2", chat_ml(SHANGHAI, "<IMG_CONTEXT>")),
        ("leo", chat_ml(LEO, "<IMG_CONTEXT>")),
    ],
)
def test_prompt_is_that_of_the_system(name: str, expected: str, tmp_path: Path) -> None:
    assert prompt_of(imported(tmp_path, name), *DIALOGUE) == expected


def test_eagle2_prompt_golden(tmp_path: Path) -> None:
    processor = imported(tmp_path, "eagle2")
    layout = processor._layout
    for recorded in rows_of("eagle2_prompt.json"):
        for case in recorded["cases"]:
            turns: list[tuple[str, Any]] = []
            for role, text in case["turns"]:
                if text is None:
                    continue
                pieces = re.split(r"(?:<image \d+>)?<image>\n", text)
                parts = [{"type": "image"}] * (len(pieces) - 1)
                turns.append((role, [*parts, {"type": "text", "text": pieces[-1]}] if parts else text))
            prompt = prompt_of(processor, *turns)
            for tiles in case["tiles"]:
                tokens = "<IMG_CONTEXT>" * case["tokens"] * tiles
                prompt = prompt.replace(
                    "<IMG_CONTEXT>", f"{layout.image_start}{'@' * len(tokens)}{layout.image_end}", 1
                )
            assert (
                re.sub("@+", lambda found: "<IMG_CONTEXT>" * (len(found[0]) // len("<IMG_CONTEXT>")), prompt)
                == case["text"]
            )


def test_system_message_of_the_dialogue_takes_the_place_of_the_systems(tmp_path: Path) -> None:
    processor = imported(tmp_path, "llava-hr")
    assert prompt_of(processor, ("system", "Be brief."), ("user", "Why?")) == "Be brief. USER: Why? ASSISTANT:"
    with pytest.raises(Exception, match="have the roles 'system', 'user' and 'assistant' alone; got tool"):
        prompt_of(processor, ("tool", "Four."))


def test_answers_alone_are_learned(tmp_path: Path) -> None:
    batch = prompt_of(
        processor := imported(tmp_path, "llava-hr"),
        ("user", "What?"),
        ("assistant", "This."),
        ("user", "Why?"),
        ("assistant", "So."),
        tokenize=True,
        add_generation_prompt=False,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    learned = [i for i, mask in zip(batch["input_ids"][0], batch["assistant_masks"][0], strict=True) if mask]
    assert processor.tokenizer.decode(learned) == " This.</s> So.</s>"


def test_format_that_the_config_of_internvl_names(tmp_path: Path) -> None:
    processor = imported(tmp_path / "one", "internvl2", template="internvl2_5")
    prompt = prompt_of(processor, *DIALOGUE)
    assert prompt.count("<|im_end|>\n<|im_start|>") == 4
    assert "书生·万象" in prompt
    with pytest.raises(ValueError, match=r"`template` in InternVL's config must be one of .*; got 'phi3-chat'"):
        imported(tmp_path / "other", "internvl2", template="phi3-chat")


def test_language_models_own_format_goes_first_where_a_system_has_several(tmp_path: Path) -> None:
    processor = imported(tmp_path, "mini-gemini-hd", own=CHATML)
    assert prompt_of(processor, ASK) == "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"


def test_images_stand_on_a_line_of_their_own(tmp_path: Path) -> None:
    processor = imported(tmp_path, "minicpm-v-2.6", own=CHATML)
    last = ("user", [{"type": "text", "text": "What? "}, {"type": "image"}])
    prompt = prompt_of(processor, ASK, ("assistant", "This."), last)
    image = processor.image_token
    assert f"user\n{image}\nWhat?<|im_end|>" in prompt
    assert f"user\nWhat? {image}<|im_end|>" in prompt


@pytest.mark.parametrize("name", ["internvl2", "llava-hr"])
def test_image_token_that_the_tokenizer_names_is_written(name: str, tmp_path: Path) -> None:
    processor = imported(tmp_path, name, pictures="<pic>")
    prompt = prompt_of(processor, ASK)
    assert processor.image_token == "<pic>"
    assert "<pic>\nWhat?" in prompt
    assert load_recipe(ORIGINALS[name].recipe).processor["image_token"] not in prompt


def test_template_that_places_images_is_kept(tmp_path: Path) -> None:
    assert imported(tmp_path / "one", "llava-hr", own=PLACES).chat_template.endswith(PLACES)  # behind what escapes
    write_original(tmp_path / "theirs", original := ORIGINALS["llava-next"])
    (tmp_path / "theirs" / "chat_template.json").write_text(json.dumps({"chat_template": PLACES}))
    made = import_checkpoint(tmp_path / "theirs", tmp_path / "ours", progress=False, **original.settings)
    assert AutoProcessor.from_pretrained(made).chat_template.endswith(PLACES)


def test_every_token_of_the_default_prompt_has_a_row(tmp_path: Path) -> None:
    """A tokenizer without a template, of a system without one, gets two tokens; the embedding has to know."""
    processor = imported(tmp_path, "minicpm-v-2.6")
    ids = prompt_of(processor, ("user", "Why?"), tokenize=True, return_dict=True)["input_ids"][0]
    turn = processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert ids[0] == turn < AutoConfig.from_pretrained(tmp_path / "ours").text_config.vocab_size


def test_prompt_of_a_recipe_names_a_template() -> None:
    recipe = load_recipe("llava-hr")
    values = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__ if name != "name"}
    with pytest.raises(ValueError, match=r"`prompt` must be an object, its `file` one of .*'vicuna\.jinja'"):
        check_recipe("mine", values | {"prompt": {"file": "alpaca.jinja"}})
