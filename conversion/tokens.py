# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Tokenizer settings of a checkpoint: image token, pad token and vocabulary size."""

from transformers import AddedToken, PreTrainedTokenizerBase

# An embedding grows to a multiple of this, which suits tensor parallelism and fast kernels.
VOCABULARY_MULTIPLE = 64
# Padding tokens that language models have but do not declare.
_PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<unk>")


def add_image_token(tokenizer: PreTrainedTokenizerBase, image_token: str) -> int:
    """Make `image_token` a special token of the tokenizer, unless it already is one.

    Returns:
        Id of the image token.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    if image_token not in added:
        tokenizer.add_tokens([AddedToken(image_token, special=True, normalized=False)], special_tokens=True)
    return tokenizer.convert_tokens_to_ids(image_token)  # type: ignore[return-value]


def image_token_of(tokenizer: PreTrainedTokenizerBase, image_token: str) -> str:
    """Return the image token that the tokenizer names, else `image_token`."""
    return str(getattr(tokenizer, "image_token", None) or image_token)


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase, image_token: str) -> None:
    """Give the tokenizer a pad token other than the image token, so that samples can be batched."""
    if tokenizer.pad_token not in (None, image_token):
        return
    vocabulary = tokenizer.get_vocab()
    usable = [token for token in _PAD_TOKENS if token in vocabulary and token != image_token]
    found = usable[0] if usable else tokenizer.eos_token
    if found is None:
        raise ValueError("The text part's tokenizer has neither a pad token nor an eos token; set `pad_token` in it.")
    tokenizer.pad_token = found


def padded_vocabulary(tokenizer: PreTrainedTokenizerBase, num_rows: int) -> int:
    """Return the embedding's number of rows: `num_rows` if every id fits, else the next multiple of 64."""
    needed = 1 + max(tokenizer.get_vocab().values())
    if needed <= num_rows:
        return num_rows
    return -(-needed // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
