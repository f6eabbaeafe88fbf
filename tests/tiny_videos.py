# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""A tiny model that takes videos, and its processor. `<video>` is the token after all others."""

from typing import Any

from fila import FilaForConditionalGeneration, FilaProcessor, FilaVideoProcessor
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.helpers import SPECIALS, TILE, single_tower, tiny_config, tiny_image_processor, tiny_model, tiny_tokenizer

VIDEO_TOKEN_ID = len(SPECIALS) + 256


def video_tokenizer() -> Any:
    """`tiny_tokenizer` with a token for videos."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<video>"], special_tokens=True)
    return tokenizer


def video_settings(connector: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Settings for `tiny_config`."""
    text = tiny_config().text_config.to_dict() | {"vocab_size": VIDEO_TOKEN_ID + 1, "max_position_embeddings": 4096}
    return {"connector": connector, "video_token_id": VIDEO_TOKEN_ID, "text_config": text} | single_tower() | changes


def video_model(connector: dict[str, Any], **changes: Any) -> FilaForConditionalGeneration:
    """A seeded model."""
    return tiny_model(**video_settings(connector, **changes))


def video_processor(model: Any, *, frames: dict[str, Any] | None = None, **settings: Any) -> FilaProcessor:
    """The processor that fits a model; `frames` are settings of the video processor."""
    single = model.config.high_res_vision_config is None
    images = {"high_res_size": None} if single else {}
    high_res = {} if single else {"high_res_size": {"height": 128, "width": 128}}
    sampling = {"type": "uniform", "num_frames": 4}
    return FilaProcessor(
        tiny_image_processor(**images),
        video_tokenizer(),
        chat_template=DEFAULT_CHAT_TEMPLATE,
        tokens_per_tile=model.model.tokens_per_tile,
        video_processor=FilaVideoProcessor(
            **({"size": {"height": TILE, "width": TILE}, "sampling": sampling} | high_res | (frames or {}))
        ),
        clip_tokens=model.model.clip_tokens,
        **settings,
    )
