# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json

import torch

from fila.modeling.modeling_shared_positions import shared_positions
from tests.goldens import tensors_of


def of(text: str) -> list[int]:
    """Positions of a row: v a placeholder, . padding, anything else text."""
    placeholders = torch.tensor([[letter == "v" for letter in text]])
    mask = torch.tensor([[int(letter != ".") for letter in text]])
    return [int(position) for position in shared_positions(placeholders, mask)[0]]


def test_positions_golden() -> None:
    checked = 0
    for metadata, tensors in tensors_of("cogvlm2video_layout.safetensors"):
        for case in json.loads(metadata["cases"]):
            vision = tensors[f"out/{case}.token_type_ids"] == 1
            assert torch.equal(shared_positions(vision[None])[0], tensors[f"out/{case}.position_ids"]), case
            checked += 1
    assert checked >= 5


def test_patches_of_a_frame_share_a_position() -> None:
    assert of("avvvvvb") == [0, 1, 2, 2, 2, 3, 4]
    assert of("avvvvtvvvvb") == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8]


def test_frames_without_text_between_are_one_run() -> None:
    assert of("avvvvvvb") == [0, 1, 2, 2, 2, 2, 3, 4]


def test_short_runs_are_text() -> None:
    assert of("avbvvc") == [0, 1, 2, 3, 4, 5]


def test_padding_does_not_advance() -> None:
    assert of("avvvb...") == [0, 1, 2, 3, 4, 4, 4, 4]
    assert of("...avvvb") == [0, 0, 0, 1, 2, 3, 4, 5]


def test_text_alone_counts_up() -> None:
    assert of("abcd") == [0, 1, 2, 3]
