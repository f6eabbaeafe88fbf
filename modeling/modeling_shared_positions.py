# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""One rotary position for all patches of a frame or an image, as in CogVLM2 and CogVLM2-Video.

Code: csbhr/Vivid-VR @ 38c736a, a copy of CogVLM2-Video's `modeling_cogvlm.py`: `build_position_ids`.

The first and the last placeholder of a run are the source's begin and end vector; they count as text, one position
each. All between share one position. Masked tokens take no position of their own. Frames without text between them
form one run, as in the source's base and vqa templates.

Deviations: none.

Shapes: B samples, L sequence length.
"""

import torch


def shared_positions(placeholders: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the position of each token.

    Args:
        placeholders: `(B, L)` bool.
        attention_mask: `(B, L)`, 0 for padding.

    Returns:
        `(B, L)` int64, from 0.
    """
    real = torch.ones_like(placeholders) if attention_mask is None else attention_mask.bool()
    vision = placeholders & real
    text = real & ~placeholders
    edge = torch.ones_like(text[:, :1])
    after_text = torch.cat([edge, text[:, :-1]], dim=1)
    before_text = torch.cat([text[:, 1:], edge], dim=1)
    counted = text | (vision & (after_text | before_text))  # text, and the ends of runs
    inner = vision & ~counted
    steps = counted | (inner & torch.cat([~edge, counted[:, :-1]], dim=1))
    steps = torch.cat([torch.zeros_like(edge), steps[:, 1:]], dim=1)
    return steps.long().cumsum(dim=1)
