# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Costs told from headers: tokens are the processor's, operations are the ones torch counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from fila.cli import app
from fila.look.estimate import Estimator, as_rows, cache_bytes, text_flops
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.modeling.tower_clip import ClipTower
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Size
from tests.contract.settings import connector_settings
from tests.helpers import (
    PATCH,
    TOKENS_PER_TILE,
    has_equal_views,
    random_image,
    single_tower,
    tiny_canvas,
    tiny_canvas_processor,
    tiny_config,
    tiny_model,
)
from tests.modeling.tiny_towers import high_res, low_res

VIEWS: dict[str, Any] = {
    "extra_vision_configs": [high_res("eva02"), high_res("sam_vision_model")],
    "high_res_overview": "encode",
    "fusion": {"type": "channel_concat", "align": "corners", "grid": 3},
}
# what is run apart from the rest: taps, stages that are read again, views of the high-res canvas, all views together
ENCODERS: dict[str, dict[str, Any]] = {
    "taps": {"fusion": {"type": "cvfm", "taps": [1, 3], "stages": [2, 4]}},
    "three reads, an encoded overview": {"high_res_overview": "encode", "fusion": {"type": "cross_attention"}},
    "an interpolated overview": {"high_res_overview": "interpolate", "fusion": {"type": "patch_info_mining"}},
    "canvas and views": VIEWS,
    "all views together": {"fusion": {"type": "query_gate"}},
    "cls and patches": single_tower(vision_config=low_res("dinov2_with_registers"), vision_feature_select="cls_patch"),
    "codes": connector_settings("codebook"),
    "streams": {
        "injection": {
            "type": "streams",
            "streams": [{"tap": 2, "before": 1}, {"layer": 0, "before": 0, "connector": {"type": "mlp", "depth": 3}}],
        }
    },
    "streams in place of tokens": single_tower(
        injection={
            "type": "streams",
            "input": "zero",
            "streams": [{"layer": 4, "before": 1}, {"layer": 0, "before": 0}],
        }
    ),
}


def tiny_estimator(canvas: dict[str, Any] | None = None, **changes: Any) -> Estimator:
    config = tiny_config(**changes)
    processor = tiny_canvas_processor(canvas or {"type": "fila"})
    if config.high_res_vision_config is None:
        processor.image_processor.high_res_size = None
    return Estimator.of(config, processor)


def counted(made: Estimator, size: tuple[int, int], **changes: Any) -> int:
    """Operations that torch counts when a model encodes an image of a size."""
    model = tiny_model(**changes).requires_grad_(False)
    model.set_attn_implementation("eager")
    inputs = made.processor.image_processor(random_image(*size), return_tensors="pt")
    # the counter does not know the CPU's attention kernel
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.get_image_features(**inputs)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("changes", ENCODERS.values(), ids=ENCODERS)
@torch.no_grad()
def test_encoder_operations_are_what_torch_counts(changes: dict[str, Any]) -> None:
    made = tiny_estimator(**changes)
    canvas = made.processor.image_processor.canvas
    for size in ((57, 31), (20, 90), (57, 31)):  # the first shapes come again
        counted_here = made.estimate("a", Size(*size), canvas).encoder_flops
        assert counted_here == counted(made, size, **changes), size


@pytest.mark.parametrize("canvas", CANVASES)
@torch.no_grad()
def test_encoder_operations_are_what_torch_counts_for_every_strategy(canvas: str) -> None:
    options = tiny_canvas(canvas)
    changes = {} if has_equal_views(options) else single_tower()
    made = tiny_estimator(options, **changes)
    assert made.estimate("a", Size(20, 90), options).encoder_flops == counted(made, (20, 90), **changes)


def test_every_part_runs_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, ...]] = []
    monkeypatch.setattr(ClipTower, "embed", _recorded(ClipTower.embed, runs))
    made = tiny_estimator()
    first = made.all_canvases("a", Size(57, 90))
    assert made.all_canvases("b", Size(57, 90))[0].encoder_flops == first[0].encoder_flops
    assert runs == [(1, 3, 28, 28)]


def _recorded(method: Any, runs: list[tuple[int, ...]]) -> Any:
    def call(self: Any, views: torch.Tensor, *args: Any) -> Any:
        runs.append(tuple(views.shape))
        return method(self, views, *args)

    return call


def test_no_operations_where_the_model_refuses_the_strategy() -> None:
    made = tiny_estimator().all_canvases("a", Size(57, 31))
    refused = {each.canvas for each in made if each.encoder_flops is None}
    assert refused == {name for name in CANVASES if not has_equal_views({"type": name})}
    assert {row[5] for row in as_rows(made) if row[1] in refused} == {"-"}


def test_no_operations_where_the_connector_or_the_tower_refuses_the_strategy() -> None:
    for changes in (connector_settings("conv_glu"), {"vision_config": low_res("internvl_vision")}):
        made = tiny_estimator(**single_tower(), **changes).all_canvases("a", Size(57, 31))
        refused = {each.canvas for each in made if each.encoder_flops is None}
        assert refused == {name for name in CANVASES if not has_equal_views({"type": name})}


@torch.no_grad()
def test_text_operations_and_cache_are_what_torch_counts() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    text = model.config.text_config
    with FlopCounterMode(display=False) as counter:
        outputs = model.model.language_model(inputs_embeds=torch.zeros(1, 53, text.hidden_size), use_cache=True)
    # Older versions of transformers make the rotary angles, 3 per position, by a matrix product.
    assert counter.get_total_flops() - text_flops(text, 53) in (0, 2 * 53 * 3)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in outputs[CACHE_NAME].layers)
    text.dtype = torch.float32
    assert cache_bytes(text, 53) == held


@pytest.mark.parametrize(("layout", "count"), [("fila", 1_000), ("llava_next", 500)])
@pytest.mark.parametrize("canvas", CANVASES)
def test_tokens_of_any_size_are_the_processors(canvas: str, layout: str, count: int) -> None:
    options = tiny_canvas(canvas)
    text = {"layout": {"type": layout}, **({} if layout == "fila" else {"token_size": PATCH})}
    processor = tiny_canvas_processor(options, **text)
    made = Estimator.of(tiny_config(), tiny_canvas_processor({"type": "fila"}, **text))  # set for another strategy
    draw = np.exp(np.random.default_rng(0).uniform(0, np.log(60_000), (count, 2))).round().astype(int).tolist()
    counted = processor._get_num_multimodal_tokens(image_sizes=draw)
    for (height, width), tokens in zip(draw, counted.num_image_tokens, strict=True):
        assert made.num_tokens(Size(height, width), options) == tokens, (height, width)


def test_nothing_is_told_where_views_are_not_whole_tokens() -> None:
    made = tiny_estimator(connector={"type": "pixel_shuffle"}, **single_tower())
    told = {each.canvas: each for each in made.all_canvases("a", Size(57, 90))}
    assert (told["uhd"].num_tokens, told["uhd"].encoder_flops, told["uhd"].cache_bytes) == (None, None, None)
    assert told["native"].num_tokens == 4 * 6  # 56 x 84 pixels in blocks of 14
    assert [row[4:] for row in as_rows([told["uhd"]])[1:]] == [["-"] * 4]


def test_other_strategies_get_the_towers_patches() -> None:
    made = tiny_estimator().all_canvases("a", Size(40, 61))
    tokens = {each.canvas: each.num_tokens for each in made}
    assert tokens["native"] == 6 * 9  # 42 x 63 pixels in patches of 7


def test_default_sizes_are_filas() -> None:
    made = Estimator().all_canvases("page", Size(672, 672))
    assert {each.canvas for each in made} == set(CANVASES)
    assert (made[0].canvas, made[0].tile_grid, made[0].num_tokens) == ("fila", (2, 2), 5 * 576)
    assert made[0].encoder_flops == 5_295_916_134_400  # CLIP-ViT-L and ConvNeXt-L, by the numbers of their configs
    assert made[0].cache_bytes == 2 * 32 * 4096 * 2880 * 2
    assert len(as_rows(made)) == len(CANVASES) + 1


def test_command_prints_a_table_and_reads_headers_only(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    result = CliRunner().invoke(app, ["estimate", str(tmp_path / "a.png"), "28x56", "--checkpoint", checkpoint])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:5] == ["image", "canvas", "tiles", "views", "tokens"]
    assert len(lines) == 1 + 2 * len(CANVASES)
    assert lines[1].split()[1:5] == ["fila", "2x2", "5", str(5 * TOKENS_PER_TILE)]


@pytest.mark.parametrize("option", ["--checkpoint", "--model"])
def test_command_prints_json_of_a_checkpoint(checkpoint: str, option: str) -> None:
    result = CliRunner().invoke(app, ["estimate", "57x31", "--json", option, checkpoint])
    assert result.exit_code == 0, result.output
    made = json.loads(result.output)
    assert made[0]["canvas"] == "fila"
    assert made[0]["num_tokens"] == TOKENS_PER_TILE * made[0]["num_views"]


def test_command_says_at_most_where_pixels_decide(checkpoint: str) -> None:
    lines = (
        CliRunner()
        .invoke(app, ["estimate", "57x31", "--checkpoint", checkpoint, "--prune", "pixelprune"])
        .output.splitlines()
    )
    assert "at most 80" in lines[1]
    zipped = '{"type": "visionzip", "dominant": 4, "contextual": 2, "cls": false}'
    result = CliRunner().invoke(app, ["estimate", "57x31", "--json", "--checkpoint", checkpoint, "--prune", zipped])
    (own, *_) = json.loads(result.output)
    assert (own["num_tokens"], own["at_most"]) == (30, False)
    assert own["encoder_flops"] > 0


def test_command_names_the_file_that_is_none_and_tells_the_rest(checkpoint: str) -> None:
    result = CliRunner().invoke(app, ["estimate", "nowhere.png", "28x56", "--checkpoint", checkpoint])
    assert result.exit_code == 2
    assert "Image 0 'nowhere.png' does not exist" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["image"] + ["28x56"] * len(CANVASES)


def test_command_takes_one_checkpoint(checkpoint: str) -> None:
    result = CliRunner().invoke(app, ["estimate", "28x56", "--checkpoint", checkpoint, "--model", checkpoint])
    assert result.exit_code == 2
    assert "--model is the old name of --checkpoint" in result.stderr


def test_language_model_of_another_layout_is_not_counted() -> None:
    text = {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 262}
    (own, *_) = made = tiny_estimator(text_config=text).all_canvases("a", Size(28, 28))
    assert own.num_tokens
    assert own.encoder_flops
    assert own.cache_bytes == 2 * 2 * 24 * 2 * own.num_tokens
    assert own.text_flops is None
    assert as_rows(made)[1][6] == "-"


def test_layers_with_linear_attention_have_no_formula_and_no_cache() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 8, "dtype": "float32"}
    hybrid = tiny_config(text_config={"model_type": "qwen3_5_text", **sizes}).text_config
    assert hybrid.layer_types.count("full_attention") == 1
    assert text_flops(hybrid, 7) is None
    assert cache_bytes(hybrid, 7) == 2 * 2 * 8 * 7 * 4
