# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every canvas, towers, fusion, connector and layout with every other that they may meet: built tiny, one token each.

`reasons` states which combinations fit together by what the parts declare, apart from the code that refuses them.
Every two values that may meet do meet in one combination that is built and generates; of every two that may not, one
combination is refused, with a reason.
"""

import re
import sys
from itertools import product
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fila import FilaConfig, FilaForConditionalGeneration, FilaProcessor
from fila.modeling.connector import CONNECTORS, build_connector
from fila.modeling.fusion import FUSIONS, build_fusion
from fila.modeling.towers import LOW_RES_TOWERS
from fila.processing.canvas import CANVASES, all_options
from fila.processing.layout import LAYOUTS, build_layout
from fila.systems.compatibility import fitting_settings
from tests.contract.settings import CONNECTOR_CHANGES, FUSION_CHANGES, connector_settings, fusion_settings
from tests.helpers import (
    SPECIALS,
    random_image,
    randomise,
    single_tower,
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


def _fusion(name: str, **changes: Any) -> Any:
    return build_fusion(tiny_config(**fusion_settings(name) | changes))


def _reads_three_towers(name: str) -> bool:
    """Whether a fusion reads a stage of each tower, where a canvas has stages 1 to 4 and views have stage 5."""
    try:
        read = _fusion(name, **TOWERS["clip + convnext + sam"])
    except ValueError:
        return False
    stages = {stage for group in read.final_stages for stage in group}
    return bool(read.final_stages) and 5 in stages and len(stages) > 1


def _refuses(name: str, width: int, grid: tuple[int, int]) -> bool:
    """Whether a connector refuses features of a width or a grid."""
    try:
        build_connector(tiny_config(**connector_settings(name)), width).tokens_per_tile(grid)
    except ValueError:
        return True
    return False


FUSION_PARTS = {name: _fusion(name) for name in FUSIONS}
CONNECTOR_PARTS = {name: build_connector(tiny_config(**connector_settings(name)), 20) for name in CONNECTORS}
LOW_WIDTH = FUSION_PARTS["none"].output_size
READ_ALL = {name for name in FUSIONS if _reads_three_towers(name)}
NEED_LOW_WIDTH = {name for name in CONNECTORS if _refuses(name, LOW_WIDTH + 1, (4, 4))}
NEED_TWO_ROWS = {name for name in CONNECTORS if _refuses(name, LOW_WIDTH, (1, 8))}
NO_MASK = {
    name
    for name, settings in TOWERS.items()
    if not LOW_RES_TOWERS[tiny_config(**single_tower(**settings)).vision_config.model_type].takes_mask
}


def multiple(canvas: str, connector: str) -> dict[str, int]:
    """The option with which a canvas keeps the blocks of patches together that a connector joins."""
    block = CONNECTOR_PARTS[connector].patch_block
    return {"multiple": block} if block is not None and "multiple" in all_options({"type": canvas}) else {}


def reasons(combination: Combination) -> list[str]:
    """Patterns of the messages with which the combination may be refused; none where it fits."""
    canvas, towers, fusion, connector, layout = combination
    read, views, joins = FUSION_PARTS[fusion], CANVAS_PARTS[canvas], CONNECTOR_PARTS[connector]
    found, num_towers, unequal = [], 1 + towers.count("+"), not views.equal_views
    if num_towers == 1 and read.needs_high_res_tower:
        found.append("joins two towers, but `high_res_vision_config` is None")
    if num_towers > 1 and not (read.taps or read.final_stages):
        found.append("reads no high-res tower")
    if num_towers > 2 and fusion not in READ_ALL:
        found += ["reads nothing of tower", "must be of one high-res tower"]
    if num_towers > 1 and towers in ONE_STAGE and len({stage for _, stage in read.taps}) > 1:
        found.append("stages")
    if unequal and (not read.takes_unequal_views or num_towers > 1 or towers in NO_MASK):
        found.append("differ in size")
    if unequal and not joins.takes_unequal_views:
        found.append("differ in size")
    has_rows = read.tokens_are_places and joins.token_grid((4, 4)) is not None
    asked = LAYOUTS.get(layout, LAYOUTS["fila"])
    if asked.has_newlines and not (has_rows and (joins.patch_block is not None or not unequal)):
        found.append("lie on no grid")
    if asked.unpad != "no" and not views.centred:
        found.append("drops the rows and columns around an image in the middle")
    if not read.tokens_are_places and connector in NEED_TWO_ROWS:
        found += [
            "joins 2x2 patches",
            "joins 2x2 features",
            "pools 2x2 patches",
            "windows of 2x2",
            "frames, rows and columns",
        ]
    if unequal and joins.patch_block and multiple(canvas, connector).get("multiple", 1) % joins.patch_block:
        found.append("not whole blocks")
    if connector in NEED_LOW_WIDTH and read.output_size != LOW_WIDTH:
        found.append("width")
    return found


def build(combination: Combination) -> tuple[FilaConfig, FilaProcessor]:
    """Config and processor, or the ValueError that refuses them."""
    canvas, towers, fusion, connector, layout = combination
    settings: dict[str, Any] = {"fusion": {"type": fusion}, **FUSION_CHANGES.get(fusion, {}), **TOWERS[towers]}
    settings |= {"connector": {"type": connector}, **CONNECTOR_CHANGES.get(connector, {})}
    if connector == "adaptive_resampler":
        settings["connector"] = {"type": connector, "grid_size": 4}
    asked = LAYOUTS.get(layout, LAYOUTS["fila"])
    settings |= {"image_newline": asked.has_newlines, "view_separator": asked.separator}
    settings |= {"slice_positions": 60 * (layout == "placed")}
    config = tiny_config(**settings, image_token_id=SPECIALS.index(PLACEHOLDER))
    options = tiny_canvas(canvas) | multiple(canvas, connector)
    side = config.high_res_tile_size
    high_res_size = None if side is None else {"height": side, "width": side}
    if not CANVAS_PARTS[canvas].equal_views:
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
