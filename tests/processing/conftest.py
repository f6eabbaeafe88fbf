# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Small processors for the tests of this folder: tiles of 14 pixels, 32 on the high-res canvas, 5 tokens per view."""

import pytest
from transformers import PreTrainedTokenizerFast

from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.processing.image_processing_fila import FilaImageProcessorPil
from fila.processing.processing_fila import FilaProcessor
from tests.helpers import tiny_tokenizer


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture
def image_processor() -> FilaImageProcessorPil:
    return FilaImageProcessorPil(size={"height": 14, "width": 14}, high_res_size={"height": 32, "width": 32})


@pytest.fixture
def processor(image_processor: FilaImageProcessorPil, tokenizer: PreTrainedTokenizerFast) -> FilaProcessor:
    return FilaProcessor(image_processor, tokenizer, chat_template=DEFAULT_CHAT_TEMPLATE, tokens_per_tile=5)
