# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import string
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fila.training.collator import FilaCollator
from fila.training.pages import make_sample
from projects.default_model.model import FUSIONS, make_model, make_processor, make_tokenizer


@pytest.mark.parametrize(
    "text", [string.printable[:95] + "\n", "What is the user no?", "  two  spaces ", "assistant\nuser"]
)
def test_tokenizer_spells_and_gives_back(text: str) -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_tokenizer_takes_what_the_template_repeats_as_one_token() -> None:
    tokenizer = make_tokenizer()
    assert len(tokenizer("<|im_start|>user\n<image>What is the Total?<|im_end|>\n")["input_ids"]) == 12
    assert tokenizer("é")["input_ids"] == [tokenizer.unk_token_id]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_default_model_reads_a_batch_of_pages_and_is_small(fusion: str) -> None:
    processor = make_processor(fusion)
    model = make_model(processor, fusion)
    assert sum(parameter.numel() for parameter in model.parameters()) * 2 < 20e6  # bytes in bfloat16
    samples = [make_sample(seed, "train", processor.image_processor) for seed in range(2)]
    batch = FilaCollator(processor)(samples)
    loss = model(**batch).loss
    assert loss.item() == pytest.approx(torch.tensor(float(model.config.text_config.vocab_size)).log().item(), rel=0.2)


def test_default_model_is_a_function_of_its_seed() -> None:
    processor = make_processor()
    first, again, other = (make_model(processor, seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_default_model_is_saved_and_loaded(tmp_path: Path) -> None:
    processor = make_processor()
    make_model(processor).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert len(model.model.vision_tower.high_res_tower.encoder.stages) == 4
    sample = make_sample(0, "test", loaded.image_processor, num_questions=1)
    prompt = FilaCollator(loaded, generate=True)([{**sample, "messages": sample["messages"][:1]}])
    assert model.generate(**prompt, max_new_tokens=3).shape[1] == prompt["input_ids"].shape[1] + 3


def test_default_model_rejects_an_unknown_fusion() -> None:
    with pytest.raises(ValueError, match=r"one of \['channel_concat', 'cvfm', 'none'\]; got 'sum'"):
        make_model(make_processor(), "sum")
