# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Heat-maps: hand-set weights light their own cells and nothing else, gradients are gradients, both reach the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llama import modeling_llama

from fila import FilaForConditionalGeneration, FilaProcessor
from fila.look import explain as explaining
from fila.look.boxes import to_999
from fila.look.explain import ExplainError, Explanation, explain, heat_of_gradients, heat_of_tokens, smoothed
from fila.look.heat import hot_boxes
from fila.look.processed_image import Seen, look
from fila.look.view_settings import Eyes
from fila.processing.canvas import CANVASES
from fila.processing.canvas_plan import Box
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.processing.layout import LAYOUTS
from fila.processing.token_boxes import TokenPlace, token_box
from tests.cases import each
from tests.helpers import PATCH, random_image, randomise, single_tower, tiny_model, tiny_processor
from tests.integration.test_combinations import build, reasons
from tests.processing.test_token_pruning import page

TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}"
    "{{ image_token if part.type == 'image' else part.text }}{% endfor %}{% endfor %} b"
)
COMBINATIONS = [(canvas, "clip", "none", "mlp", layout) for canvas in CANVASES for layout in LAYOUTS]


def built(combination: Any) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    config, processor = build(combination)
    processor.chat_template = TEMPLATE
    model = FilaForConditionalGeneration(config).eval()
    randomise(model)
    return model, processor


@contextmanager
def all_weight_on(number: int, model: Any) -> Iterator[None]:
    """Let every head of every layer of a LLaMA read one image token alone; its values stay those of the mean."""
    found: list[torch.Tensor] = []

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        weights = torch.zeros(*query.shape[:3], key.shape[2])
        weights[..., found[0][number]] = 1
        return query.transpose(1, 2), weights

    def remember(module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids")
        if ids is not None and not found:
            found.append((ids[0] == model.config.image_token_id).nonzero()[:, 0])

    hook = model.register_forward_pre_hook(remember, with_kwargs=True)
    with mock.patch.object(modeling_llama, "eager_attention_forward", attention):
        yield
    hook.remove()


def box_of_placeholder(processor: Any, image: Image.Image, number: int, grid: tuple[int, int]) -> Box | None:
    """The box of a placeholder's token, from what the processor says to the model; None for learned vectors."""
    batch = processor(images=image, text=processor.image_token, return_tensors="pt")
    plan = processor.image_processor.plan(image.height, image.width)
    index = batch["image_token_index"][0, number].item() if "image_token_index" in batch else number
    sizes = [tuple(side // PATCH for side in size) for size in plan.view_sizes]
    grids = sizes if processor.token_size else [grid] * plan.num_views
    for view, (rows, cols) in enumerate(grids):
        if 0 <= index < rows * cols:
            return token_box(plan, TokenPlace(view, *divmod(index, cols)), (rows, cols))
        index = index - rows * cols if index >= 0 else index
    return None


@each("combination", [one for one in COMBINATIONS if not reasons(one)])
def test_all_attention_on_a_token_lights_its_cell_alone(combination: Any) -> None:
    model, processor = built(combination)
    image = random_image(53, 97)
    count = int(
        (
            processor(images=image, text=processor.image_token)["input_ids"][0]
            == np.array(model.config.image_token_id)
        ).sum()
    )
    for number in {0, count // 3, count - 1}:
        with all_weight_on(number, model):
            heat = explain(model, processor, image, "a", answer="cd").heat
        box = box_of_placeholder(processor, image, number, (4, 4))
        inside = np.zeros(heat.shape, bool)
        if box is not None:
            inside[box.top : box.bottom, box.left : box.right] = True
            assert (heat[inside] > 0).all()
        assert (heat[~inside] == 0).all()
        assert box is None or inside.flat[heat.argmax()]


def test_every_combination_that_fits_is_among_them() -> None:
    fitting = [one for one in COMBINATIONS if not reasons(one)]
    assert {one[0] for one in fitting} == set(CANVASES)
    assert {one[4] for one in fitting} == set(LAYOUTS)


def tiny(**changes: Any) -> tuple[FilaForConditionalGeneration, FilaProcessor]:
    return tiny_model(**changes), tiny_processor()


def see(**changes: Any) -> Seen:
    return look(Eyes(tiny_processor(**changes), (4, 4), PATCH, "tiny"), random_image(53, 97))


@each(
    "changes",
    [
        {},
        {"shared_positions": True},
        {"injection": {"type": "streams", "streams": [{"layer": 1, "before": 1}]}},
    ],
)
def test_attention_is_that_of_one_pass_over_all_tokens_and_the_model_is_as_it_was(changes: dict[str, Any]) -> None:
    model, processor = tiny(**changes)
    before = model.model.language_model.config._attn_implementation
    seen: list[Any] = []
    real = explaining.attention_to_image

    def watched(*given: Any) -> Any:
        seen.append((given, real(*given)))
        return seen[-1][1]

    with mock.patch.object(explaining, "attention_to_image", watched):
        found = explain(model, processor, random_image(53, 97), "what?", answer="abc")
    ((_, inputs, ids), weights), *_ = seen
    assert model.model.language_model.config._attn_implementation == before != "eager"
    model.set_attn_implementation("eager")
    whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    images = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    with torch.no_grad():
        layers = torch.cat(model(input_ids=whole, **images, output_attentions=True).attentions)
    columns = (whole[0] == model.config.image_token_id).nonzero()[:, 0]
    first = inputs["input_ids"].shape[1] - 1
    expected = layers[:, :, first : first + len(ids)][..., columns].numpy()
    assert weights.shape == expected.shape == (2, 4, 3, 80)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert found.heat.sum() == pytest.approx(1)


def test_gradient_is_the_derivative_of_the_log_probability() -> None:
    model, processor = tiny()
    model = model.double()
    content = [{"type": "image", "image": random_image(53, 97)}, {"type": "text", "text": "?"}]
    messages = [{"role": "user", "content": content}]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template(messages, **options)
    ids = [30, 41, 52]
    _, canvas = explaining.pixel_gradients(model, dict(inputs), ids)
    whole = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)}
    del whole["attention_mask"]

    def logprob(pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = model(**whole | {"high_res_pixel_values": pixels}).logits[0, -4:-1]
        return logits.float().double().log_softmax(-1)[range(3), ids].sum()

    pixels = inputs["high_res_pixel_values"].double()
    y, x = divmod(int(canvas.argmax()), canvas.shape[1])
    moved, step = 0.0, 1e-2
    for colour in range(3):
        up, down = pixels.clone(), pixels.clone()
        up[0, colour, y, x] += step
        down[0, colour, y, x] -= step
        moved += float((logprob(up) - logprob(down)) / (2 * step) * pixels[0, colour, y, x])
    assert float(canvas[y, x]) == pytest.approx(abs(moved), rel=0.02)
    assert model.model.vision_tower.low_res_tower.training is False
    assert all(weight.grad is None for weight in model.parameters())


def test_gradient_of_a_pixel_lies_where_it_was_drawn_from() -> None:
    seen = see()
    plan, views = seen.plan, torch.zeros(5, 28, 28)
    top, left, bottom, right = plan.content_box
    scale = 128 / 28
    canvas = torch.zeros(round(plan.canvas_size[0] * scale), round(plan.canvas_size[1] * scale))
    canvas[int((top + bottom) / 2 * scale), int((left + right) / 2 * scale)] = 1
    row, col = np.argwhere(heat_of_gradients(seen, views, canvas) > 0).mean(0)
    assert (row, col) == pytest.approx((53 / 2, 97 / 2), abs=1.5)
    views[1, 27, 27] = 1  # the first tile's last pixel, in the middle of the 2 x 2 canvas
    heat = heat_of_gradients(seen, views, torch.zeros_like(canvas))
    box = token_box(plan, TokenPlace(1, 27, 27), (28, 28))
    assert box is not None
    assert np.argwhere(heat > 0).min(0).tolist() == [box.top, box.left]
    assert (np.argwhere(heat > 0).max(0) + 1).tolist() == [box.bottom, box.right]


@each("canvas", ["native", "internvl"])
def test_gradient_reaches_the_page_on_canvases_of_either_kind(canvas: str) -> None:
    model, processor = built((canvas, "clip", "none", "mlp", "fila"))
    heat = explain(model, processor, random_image(53, 97), "a", answer="cd", method="gradient").heat
    assert heat.shape == (53, 97)
    assert (heat > 0).all()
    assert heat.sum() == pytest.approx(1)


def test_tokens_that_overlap_are_added_up_and_edges_have_no_seams() -> None:
    seen = see()
    heat = heat_of_tokens(seen, np.ones(seen.num_tokens))
    assert heat.sum() == pytest.approx(seen.real_share * seen.num_tokens, rel=0.02)
    assert np.ptp(heat) < 0.02 * heat.mean()  # every pixel is in one cell of the overview and one of a tile


def test_pruned_tokens_have_no_cell() -> None:
    model = tiny_model()
    plain = tiny_processor()
    processor = FilaProcessor(
        plain.image_processor, plain.tokenizer, chat_template=DEFAULT_CHAT_TEMPLATE, tokens_per_tile=16,
        prune="pixelprune",
    )  # fmt: skip
    image = page(90, 90)
    seen = look(Eyes(processor, (4, 4), PATCH, "tiny"), image)
    found = explain(model, processor, image, "a", answer="cd")
    lit = heat_of_tokens(seen, np.ones(seen.num_tokens)) > 0
    assert seen.left_out
    assert (found.heat[~lit] == 0).all()
    assert (found.heat[lit] > 0).all()


@each(
    ("changes", "name"),
    [
        ({"connector": {"type": "resampler", "num_queries": 5}}, "'resampler'"),
    ],
)
def test_queries_of_no_place_are_refused_and_have_gradients(changes: dict[str, Any], name: str) -> None:
    model = tiny_model(**single_tower(**changes))
    processor = FilaProcessor(
        tiny_processor(high_res_size=None).image_processor, tiny_processor().tokenizer,
        chat_template=DEFAULT_CHAT_TEMPLATE, tokens_per_tile=model.model.tokens_per_tile,
    )  # fmt: skip
    with pytest.raises(ExplainError, match=f"{name} stand for no place .*'gradient'"):
        explain(model, processor, random_image(53, 97), "a", answer="cd")
    assert explain(model, processor, random_image(53, 97), "a", answer="c", method="gradient").heat.max() > 0


def test_models_without_attention_weights_are_refused() -> None:
    model, processor = tiny()
    with (
        mock.patch.object(modeling_llama, "eager_attention_forward", lambda *a, **k: (a[1].transpose(1, 2), None)),
        pytest.raises(ExplainError, match="'llama' returns no attention weights"),
    ):
        explain(model, processor, random_image(53, 97), "a", answer="cd")


def test_answers_and_methods_are_checked() -> None:
    model, processor = tiny()
    with pytest.raises(ExplainError, match=r"`method` must be one of \['attention', 'gradient'\]; got 'lime'\."):
        explain(model, processor, random_image(5, 9), "a", method="lime")
    with pytest.raises(ExplainError, match="must have a token"):
        explain(model, processor, random_image(5, 9), "a", answer="")


def test_own_answer_is_explained_as_if_it_was_given() -> None:
    model, processor = tiny()
    own = explain(model, processor, random_image(53, 97), "a", max_new_tokens=3)
    assert own.answer
    assert own.heat.shape == (53, 97)


def test_hot_boxes_are_the_parts_in_order() -> None:
    heat = np.zeros((600, 700))
    heat[100:120, 300:390] = 3
    heat[5:7, 6:9] = 4
    heat[590:600, 690:700] = 1
    found = hot_boxes(heat, 2)
    assert [box for box, _ in found] == [Box(5, 6, 7, 9), Box(100, 300, 120, 390)]
    assert found[1][1] == pytest.approx(5400 / heat.sum())
    assert hot_boxes(np.zeros((3, 3)), 2) == []


def test_window_counts_pixels_by_their_part() -> None:
    heat = np.zeros((1, 7))
    heat[0, 3] = 1
    np.testing.assert_allclose(smoothed(heat, 1, 2), [[0, 0, 0.5, 1, 0.5, 0, 0]])
    assert smoothed(heat, 0, 1) == pytest.approx(heat)


def test_picture_and_json_show_the_hottest_part() -> None:
    heat = np.zeros((40, 60))
    heat[10:20, 30:50] = 1 / 200
    found = Explanation(Image.new("RGB", (60, 40), "white"), "q?", "a", "attention", heat)
    (part,) = found.boxes()
    assert (part.box, part.box_999) == (Box(10, 30, 20, 50), to_999(Box(10, 30, 20, 50), (40, 60)))
    told = found.told()
    assert told["boxes"] == [{"pixels": [30, 10, 50, 20], "norm999": [*part.box_999], "share": 1.0}]
    picture = np.asarray(found.picture("page"), dtype=int)
    scale, left, top = 1008 / 60, 36, 116
    inside = picture[top + round(15 * scale), left + round(40 * scale)]
    outside = picture[top + round(5 * scale), left + round(10 * scale)]
    assert inside[1] < 100 < inside[0]  # the colour of marked tokens
    assert (outside > 240).all()
