# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every canvas, towers, fusion, connector and layout with every other that they may meet: built tiny, one token each.

`reasons` states which combinations fit together, apart from the code that refuses them. Every two values that may meet
do meet in one combination that is built and generates; of every two that may not, one combination is refused, with a
reason.
"""

import re
import sys
from itertools import product
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fila import FilaConfig, FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS
from fila.modeling.fusion import FUSIONS
from fila.processing.canvas import CANVASES
from fila.processing.layout import LAYOUTS, build_layout
from fila.systems.compatibility import fitting_settings
from tests.contract.settings import CONNECTOR_CHANGES, FUSION_CHANGES
from tests.helpers import (
    SPECIALS,
    has_equal_views,
    random_image,
    randomise,
    tiny_canvas,
    tiny_config,
    tiny_image_processor,
    tiny_tokenizer,
)
from tests.integration.pairwise import Combination, covering, pairs_of
from tests.integration.tiny_towers import ONE_STAGE, TOWERS

DIMENSIONS = (sorted(CANVASES), sorted(TOWERS), sorted(FUSIONS), sorted(CONNECTORS), [*sorted(LAYOUTS), "placed"])
CANVAS_PARTS = {name: tiny_image_processor(canvas=tiny_canvas(name), high_res_size=None).plans() for name in CANVASES}
# MiniCPM-V's layouts have `<image>` as text, so another token of the vocabulary is the placeholder.
PLACEHOLDER = "<|im_start|>"


def reasons(combination: Combination) -> list[str]:
    """Patterns of the messages with which the combination may be refused; none where it fits."""
    canvas, towers, fusion, connector, layout = combination
    found, num_towers, unequal = [], 1 + towers.count("+"), not EQUAL_VIEWS[canvas]
    if num_towers == 1 and fusion not in ("none", "query_gate"):
        found.append("joins two towers, but `high_res_vision_config` is None")
    if num_towers > 1 and fusion == "none":
        found.append("reads no high-res tower")
    if num_towers > 2 and fusion not in ("channel_concat", "multi_encoder_queries"):
        found.append("reads nothing of tower")
    if num_towers > 1 and towers in ONE_STAGE and fusion == "cvfm":
        found.append("stages")
    if unequal and (fusion != "none" or num_towers > 1 or towers == "internvit"):
        found.append("differ in size")
    if unequal and connector in ONE_GRID:
        found.append("differ in size")
    if layout == "llava_next" and (
        fusion in ONE_ROW or connector in QUERIES | ONE_GRID or (connector == "adaptive_resampler" and unequal)
    ):
        found.append("lie on no grid")
    if layout == "llava_next" and canvas in ("internvl", "long_edge_tiers", "minicpm", "uhd"):
        found.append("drops the rows and columns around an image in the middle")
    if fusion in ONE_ROW and connector in ("conv_glu", "dual_path", "spatial_pool", "stc_v35", "stp"):
        found += ["joins 2x2 patches", "pools 2x2 patches", "frames, rows and columns"]
    if connector == "pixel_shuffle":
        found += ["joins 2x2 patches"] * (fusion in ONE_ROW) + ["not whole blocks"] * (canvas in ("minicpm", "uhd"))
    if connector in ("identity", "spatial_conv", "spatial_pool") and fusion in OTHER_WIDTH:
        found.append("width")
    return found


def build(combination: Combination) -> tuple[FilaConfig, FilaProcessor]:
    """Config and processor, or the ValueError that refuses them."""
    canvas, towers, fusion, connector, layout = combination
    settings: dict[str, Any] = {"fusion": {"type": fusion}, **FUSION_CHANGES.get(fusion, {}), **TOWERS[towers]}
    settings |= {"connector": {"type": connector}, **CONNECTOR_CHANGES.get(connector, {})}
    if connector == "adaptive_resampler":
        settings["connector"] = {"type": connector, "grid_size": 4}
    settings |= {"image_newline": layout == "llava_next", "slice_positions": 60 * (layout == "placed")}
    config = tiny_config(**settings, image_token_id=SPECIALS.index(PLACEHOLDER))
    options = tiny_canvas(canvas) | ({"multiple": 2} if (canvas, connector) == ("native", "pixel_shuffle") else {})
    side = config.high_res_tile_size
    high_res_size = None if side is None else {"height": side, "width": side}
    if not EQUAL_VIEWS[canvas]:
        high_res_size = None  # the image processor refuses it before the model is known
    images = tiny_image_processor(canvas=options, high_res_size=high_res_size)
    chosen = {"type": "fila", "slice_positions": True} if layout == "placed" else {"type": layout}
    fitting = fitting_settings(config, images, build_layout(chosen))
    return config, FilaProcessor(images, TOKENIZER, image_token=PLACEHOLDER, layout=chosen, **fitting)


TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=tiny_tokenizer().backend_tokenizer,
    pad_token="<pad>",
    eos_token="<|im_end|>",
    extra_special_tokens={"im_start": PLACEHOLDER},
)
ALL = list(product(*DIMENSIONS))
ALLOWED = [combination for combination in ALL if not reasons(combination)]
MEET = set().union(*map(pairs_of, ALLOWED))
CHOSEN = covering(ALLOWED)
REFUSED = covering([one for one in ALL if not MEET.issuperset(pairs_of(one))], wanted=lambda pair: pair not in MEET)


def test_every_two_values_that_may_meet_are_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert set().union(*map(pairs_of, CHOSEN)) == MEET
    every = set().union(*map(pairs_of, ALL))
    assert every - MEET <= set().union(*map(pairs_of, REFUSED))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(ALL)} combinations, {len(ALLOWED)} of them fit; {len(CHOSEN)} are built and generate, which "
            f"cover {len(MEET)} pairs; {len(REFUSED)} are refused, for {len(every - MEET)} pairs that never fit\n"
        )


@pytest.mark.parametrize("combination", CHOSEN, ids=", ".join)
@torch.no_grad()
def test_what_fits_generates(combination: Combination) -> None:
    config, processor = build(combination)
    model = FilaForConditionalGeneration(config).eval()
    randomise(model)
    inputs = processor(images=random_image(53, 97), text=f"a {PLACEHOLDER} b", return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 1


@pytest.mark.parametrize("combination", REFUSED, ids=", ".join)
def test_what_does_not_fit_is_refused_with_a_reason(combination: Combination) -> None:
    with pytest.raises(ValueError, match="|".join(map(re.escape, reasons(combination)))):
        build(combination)
