# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pruning in the processor: the rule, both canvases, layouts, budgets, refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from fila import FilaImageProcessor, FilaProcessor
from fila.processing.layout import DROPPED, LAYOUTS, NEWLINE, PADDING
from fila.processing.processing_fila import DEFAULT_CHAT_TEMPLATE
from fila.processing.token_pruning import build_pruning, kept_cells, same_on_canvas
from tests.cases import each
from tests.helpers import TOKENS_PER_TILE, tiny_canvas_processor, tiny_image_processor, tiny_processor, tiny_tokenizer
from tests.reference.naive_pruning import kept_cells as kept_one_by_one

PIXELPRUNE = {"type": "pixelprune"}
VISIONZIP = {"type": "visionzip", "dominant": 3, "contextual": 2}


def page(height: int = 90, width: int = 150, text: str = "hello") -> Image.Image:
    """A white page with a word on it."""
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((width // 5, height // 3), text, fill="black")
    return image


def processor(prune: Any = PIXELPRUNE, **changes: Any) -> FilaProcessor:
    images = {name: changes.pop(name) for name in ("canvas", "high_res_size") if name in changes}
    settings = {"tokens_per_tile": TOKENS_PER_TILE, "chat_template": DEFAULT_CHAT_TEMPLATE, **changes}
    return FilaProcessor(tiny_image_processor(**images), tiny_tokenizer(), prune=prune, **settings)


# --- the rule ---


def test_rule_is_its_slow_twin_and_loses_nothing() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 7), (6, 1), (5, 7), (9, 4)):
        for colors in (1, 2, 3):
            grid = rng.integers(0, colors, size)
            kept = kept_cells(grid[:, 1:] == grid[:, :-1], grid[1:] == grid[:-1])
            assert kept.tolist() == kept_one_by_one(grid.tolist())
            assert kept[0, 0]
            restored = np.zeros_like(grid)
            for row in range(size[0]):
                for col in range(size[1]):
                    left = restored[row, col - 1] if col else None
                    above = restored[row - 1, col] if row else None
                    corner = restored[row - 1, col - 1] if row and col else None
                    guess = above if col == 0 or (row and corner == left and corner != above) else left
                    restored[row, col] = grid[row, col] if kept[row, col] else guess
            assert (restored == grid).all()


def test_high_res_canvas_keeps_what_only_it_shows() -> None:
    canvas = np.zeros((3, 32, 32), np.float32)
    left, above = same_on_canvas(canvas, (0, 0, 28, 28), (4, 4), (32, 28))
    assert left.all()
    assert above.all()
    canvas[1, 9, 17] = 1.0  # in the cell (1, 2)
    left, above = same_on_canvas(canvas, (0, 0, 28, 28), (4, 4), (32, 28))
    assert np.argwhere(~left).tolist() == [[1, 1], [1, 2]]
    assert np.argwhere(~above).tolist() == [[0, 2], [1, 2]]


def test_cells_between_pixels_are_equal_in_one_color_alone() -> None:
    canvas = np.zeros((3, 20, 30), np.float32)
    left, above = same_on_canvas(canvas, (0, 0, 20, 30), (4, 4), (1, 1))  # cells of 5 x 7.5 pixels
    assert left.all()
    assert above.all()
    canvas[:, 3, ::2] = 1.0  # equal stripes in the first row of cells, whose cells begin between pixels
    left, above = same_on_canvas(canvas, (0, 0, 20, 30), (4, 4), (1, 1))
    assert not left[0].any()
    assert not above[0].any()
    assert left[1:].all()


def test_two_canvases_must_agree() -> None:
    pixels = np.full((256, 256, 3), 255, np.uint8)
    pixels[100, 200] = 250  # a dot that fades when the view is drawn, and not on the high-res canvas
    rows = [
        processor(**settings)(images=pixels, return_tensors="np")["image_token_index"][0]
        for settings in ({"high_res_size": None}, {})
    ]
    kept = [{int(token) for token in row if token >= 0} for row in rows]
    assert len(kept[0]) == 5
    assert kept[0] < kept[1]


# --- prompts ---


def test_off_is_as_before_and_writes_nothing_more() -> None:
    plain, named = tiny_processor(), processor(prune=None)
    assert plain.to_dict() == named.to_dict()
    assert "prune" not in plain.to_dict()
    assert "prune" not in plain.preprocessing()
    ours, theirs = (one(images=page(), text="<image>?", return_tensors="pt") for one in (plain, named))
    off = processor()(images=page(), text="<image>?", return_tensors="pt", prune=None)
    for name in theirs:
        assert torch.equal(ours[name], theirs[name])
        assert torch.equal(ours[name], off[name])
    assert set(ours) == set(theirs) == set(off)


def test_call_and_constructor_prune_alike() -> None:
    ours = processor()(images=page(), text="<image>?", return_tensors="pt")
    named = tiny_processor()(images=page(), text="<image>?", return_tensors="pt", prune="pixelprune")
    assert set(ours) == set(named)
    assert all(torch.equal(ours[name], named[name]) for name in ours)
    assert int((ours["input_ids"] == 5).sum()) == int((ours["image_token_index"] > DROPPED).sum()) < 80


def test_blank_page_keeps_one_token_of_every_view() -> None:
    made = processor()(images=Image.new("RGB", (90, 90), "white"), text="<image>", return_tensors="pt")
    (row,) = made["image_token_index"]
    assert [token for token in row.tolist() if token >= 0] == [16 * view for view in range(len(row) // 16)]
    assert made["input_ids"].tolist() == [[5] * (len(row) // 16)]


@each("name", sorted(name for name in LAYOUTS if "<image>" not in LAYOUTS[name].texts.values()))
def test_layouts_lose_placeholders_alone(name: str) -> None:
    settings = {"layout": name, "token_size": 7}
    images = {"canvas": {"type": "llava_next"}} if name == "llava_next" else {}
    if name == "llava_next":
        images = {"canvas": {"type": "llava_next", "tile_grids": [[2, 1], [1, 2], [2, 2]]}}
    whole, pruned = processor(prune=None, **settings, **images), processor(**settings, **images)
    image = page()
    before = whole(images=image, text="a<image>b", return_tensors="np")
    after = pruned(images=image, text="a<image>b", return_tensors="np")
    token = whole.image_token_id
    rest = [[int(one) for one in made["input_ids"][0] if one != token] for made in (before, after)]
    assert rest[0] == rest[1]
    (row,) = after["image_token_index"]
    full = [DROPPED - token if token <= DROPPED else token for token in row.tolist()]
    (own,) = before.get("image_token_index", [np.arange(len(full))])
    assert full == [int(token) for token in own if token != PADDING]
    assert full.count(NEWLINE) == row.tolist().count(NEWLINE)
    assert row[0] >= 0
    assert int((after["input_ids"] == token).sum()) == int((row > DROPPED).sum()) < len(row)


def test_unequal_views_are_pruned_each_alone() -> None:
    for name in ("minicpm", "native", "uhd"):
        plain = tiny_canvas_processor({"type": name, "patch_size": 7})
        pruned = tiny_canvas_processor({"type": name, "patch_size": 7}, prune="pixelprune")
        images = [page(), Image.new("RGB", (40, 90), "gray")]
        whole, made = (one(images=images, return_tensors="pt") for one in (plain, pruned))
        rows = made["image_token_index"]
        for image, row in enumerate(rows):
            sizes = [int(grid.prod()) for grid in whole["patch_grids"][image] if int(grid.prod())]
            starts = [sum(sizes[:view]) for view in range(len(sizes))]
            kept = {int(token) for token in row if token >= 0}
            assert set(starts) <= kept
            if image == 1:
                assert kept == set(starts)
        assert all(torch.equal(whole[key], made[key]) for key in whole)


def test_what_unpad_hides_predicts_nothing() -> None:
    canvas = {"type": "llava_next", "tile_grids": [[2, 2]]}
    pruned = processor(layout="llava_next", token_size=7, canvas=canvas)
    made = pruned(images=Image.new("RGB", (150, 50), "white"), return_tensors="np")
    (row,) = made["image_token_index"]
    tokens = [int(token) for token in row if token != PADDING]
    shown = {DROPPED - token if token <= DROPPED else token for token in tokens}
    for view in range(5):
        own = sorted(token for token in shown if token // 16 == view)
        assert own[0] in tokens


def test_images_of_a_batch_have_rows_of_their_own() -> None:
    pruned = processor()
    both = pruned(
        images=[[page()], [page(40, 200, "x")]], text=["<image>", "a<image>"], padding=True, return_tensors="pt"
    )
    for number, image in enumerate((page(), page(40, 200, "x"))):
        (alone,) = pruned(images=image, return_tensors="pt")["image_token_index"]
        row = both["image_token_index"][number]
        assert torch.equal(row[row != PADDING], alone)


def test_drawing_in_torch_prunes_alike() -> None:
    settings = tiny_image_processor().to_dict()
    images = FilaImageProcessor(**{name: settings[name] for name in ("size", "high_res_size", "canvas")})
    other = FilaProcessor(images, tiny_tokenizer(), tokens_per_tile=TOKENS_PER_TILE, prune="pixelprune")
    ours, theirs = (one(images=page(), return_tensors="pt") for one in (processor(), other))
    assert torch.equal(ours["image_token_index"], theirs["image_token_index"])


def test_counts_of_sizes_are_the_most_and_budgets_hold() -> None:
    plain, pruned = tiny_processor(), processor()
    assert pruned._get_num_multimodal_tokens([(90, 150)]) == plain._get_num_multimodal_tokens([(90, 150)])
    canvas, limit = (
        {"type": "native", "patch_size": 7},
        {"max_image_tokens": 40, "image_token_policy": "shrink_images"},
    )
    limited = tiny_canvas_processor(canvas, prune="pixelprune", **limit)
    made = limited(images=page(), text="<image>", return_tensors="pt")
    whole = tiny_canvas_processor(canvas, **limit)(images=page(), text="<image>", return_tensors="pt")
    assert torch.equal(made["pixel_values"], whole["pixel_values"])
    most = limited._get_num_multimodal_tokens([(90, 150)])["num_image_tokens"][0]
    assert made["input_ids"].shape[1] < whole["input_ids"].shape[1] == most <= 40


def test_loaded_with_another_pruning(tmp_path: Any) -> None:
    tiny_processor().save_pretrained(tmp_path)
    assert FilaProcessor.from_pretrained(tmp_path).prune is None
    loaded = FilaProcessor.from_pretrained(tmp_path, prune="pixelprune")
    assert loaded.prune == PIXELPRUNE
    loaded.save_pretrained(tmp_path)
    again = FilaProcessor.from_pretrained(tmp_path)
    assert again.prune == PIXELPRUNE
    assert again.preprocessing()["prune"] == PIXELPRUNE
    assert FilaProcessor.from_pretrained(tmp_path, prune=None).prune is None


# --- VisionZip ---


def test_visionzip_gives_every_view_one_count() -> None:
    zipped = processor(VISIONZIP)
    made = zipped(images=page(), text="<image>", return_tensors="pt")
    num_views = int(made["view_boxes"][0].any(dim=-1).sum())
    assert made["input_ids"].shape[1] == 6 * num_views
    assert zipped._get_num_multimodal_tokens([(90, 150)])["num_image_tokens"] == [6 * num_views]
    assert "image_token_index" not in made
    without = processor({**VISIONZIP, "cls": False})
    assert without(images=page(), text="<image>")["input_ids"][0] == [5] * (5 * num_views)


def test_visionzip_has_no_newlines_and_keeps_the_layout_of_its_settings() -> None:
    canvas = {"type": "llava_next", "tile_grids": [[2, 2]]}
    settings = {"layout": "llava_next", "token_size": 7, "canvas": canvas}
    zipped = processor(VISIONZIP, **settings)
    made = zipped(images=page(), text="<image>", return_tensors="pt")
    assert made["input_ids"].shape[1] == 6 * 5
    assert zipped.preprocessing()["layout"] == processor(None, **settings).preprocessing()["layout"]


# --- refusals ---


@each(
    ("options", "told"),
    [
        ("dart", "inside the language model"),
        ({"type": "fastv"}, "inside the language model"),
        ("prumerge", r"must be one of \['pixelprune', 'visionzip'\]"),
        (3, "must be a name or a dict"),
        ({"type": "pixelprune", "level": "b"}, "Level 'b'.*not supported"),
        ({"type": "pixelprune", "tau": 3}, "`prune.tau` must be 0"),
        ({"type": "pixelprune", "ratio": 3}, r"no option \['ratio'\]"),
        ({"type": "visionzip", "dominant": 3}, "`prune.contextual` must be a positive"),
        ({"type": "visionzip", "dominant": 0, "contextual": 1}, "`prune.dominant` must be a positive"),
        ({**VISIONZIP, "cls": 2}, "`prune.cls` must be true or false"),
    ],
)
def test_options_are_refused_by_name(options: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build_pruning(options)


def test_tokens_that_are_no_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="needs one token for each cell of whole pixels; 15 tokens"):
        processor(tokens_per_tile=15)
    with pytest.raises(ValueError, match="needs one token for each cell"):
        processor(tokens_per_tile=9)  # 3 x 3 on 28 pixels


def test_call_cannot_change_what_the_model_does() -> None:
    with pytest.raises(ValueError, match="cannot turn 'visionzip' on or off"):
        tiny_processor()(images=page(), text="<image>", prune=VISIONZIP)
    with pytest.raises(ValueError, match="cannot turn 'visionzip' on or off"):
        processor(VISIONZIP)(images=page(), text="<image>", prune=None)


def test_visionzip_refuses_views_that_differ_and_videos() -> None:
    with pytest.raises(ValueError, match="views of the canvas 'native' differ in size"):
        tiny_canvas_processor({"type": "native", "patch_size": 7}, prune=VISIONZIP)
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<video>"]})
    videos = {"size": {"height": 28, "width": 28}}
    with pytest.raises(ValueError, match="this processor takes videos"):
        FilaProcessor(tiny_image_processor(), tokenizer, tokens_per_tile=16, video_processor=videos, prune=VISIONZIP)
