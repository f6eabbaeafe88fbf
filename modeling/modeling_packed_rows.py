# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Rows that hold several samples, one after the other. Each sample's positions start again.

transformers separates the samples of a row only without mask and cache (`masking_utils.py`). In other cases each
sample would silently read the samples before it.

Shapes: B rows, L sequence length.
"""

import torch
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask
from transformers.utils.import_utils import is_torchdynamo_compiling

# Their layers build the mask without the positions, or select keys without it, some only in older versions of
# transformers. A test over all families checks this list.
READ_OVER_BORDERS = (
    "afmoe",
    "axk2",
    "biogpt",
    "deepseek_v32",
    "doge",
    "dots3_note_text",
    "glm_moe_dsa",
    "gpt_oss",
    "moshi",
    "xglm",
)

# Attentions of engines that put the requests of a step into one row and know themselves where each begins.
OF_ENGINES = ("vllm",)


def is_packed(position_ids: torch.Tensor | None, attention_mask: object, attention: str | None = None) -> bool:
    """Return whether the positions of a row start again between two tokens that are not padding.

    The check waits for the device, so it reads only positions of several tokens that the caller passed, and none in a
    compiled graph or of an engine that separates its requests itself.

    Args:
        position_ids: `(B, L)` int; None or another shape means not packed.
        attention_mask: `(B, S)`, 0 for padding, S at least L if a cache precedes; a mask of another shape decides
            itself which token reads which.
        attention: Name of the language model's attention.
    """
    if attention in OF_ENGINES:
        return False
    if position_ids is None or position_ids.ndim != 2 or position_ids.shape[1] < 2 or is_torchdynamo_compiling():
        return False
    restarts = position_ids[:, 1:] < position_ids[:, :-1]
    if attention_mask is not None:
        if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
            return False
        real = attention_mask[:, -position_ids.shape[1] :].to(position_ids.device).bool()
        restarts = restarts & real[:, 1:] & real[:, :-1]
    return bool(restarts.any())


def check_packed(language_model: PreTrainedModel, *, shared: bool, rows: int = 1, **present: bool) -> None:
    """Check that a language model separates the samples of a packed row.

    Args:
        language_model: The language model.
        shared: Whether the model has `shared_positions`.
        rows: Number of rows of the batch.
        **present: For each input that packed positions forbid, whether it is given.

    Raises:
        ValueError: If it does not; the message says what to leave out.
    """
    start = "`position_ids` start again within a row, as those of several samples in one row do, "
    if found := [name for name, is_there in present.items() if is_there]:
        raise ValueError(
            f"{start}but {found} came too, and transformers then lets every sample read those before it. Leave "
            f"{found} out, or put each sample into a row of its own."
        )
    if shared:
        raise ValueError(f"{start}which a model with `shared_positions` cannot tell apart. Put each into its own row.")
    config = language_model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    carries = language_model._is_stateful or any("linear" in kind or "attention" not in kind for kind in kinds)
    if carries or config.model_type in READ_OVER_BORDERS:
        raise ValueError(
            f"{start}but the layers of {type(language_model).__name__} read over the borders. Put each sample into a "
            "row of its own."
        )
    kind = config._attn_implementation
    mask = AttentionMaskInterface().get(kind)
    if mask is None or (mask is flash_attention_mask and rows > 1):
        at_most = "no packed row" if mask is None else f"one packed row, not {rows}"
        raise ValueError(f"{start}of which the attention {kind!r} takes {at_most}. Use 'sdpa', or one sample per row.")
