# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Which parts of an image an answer comes from: a heat-map over the image's own pixels, by attention or by gradient.

- "attention": the weights with which the tokens that predict the answer read the image tokens, the mean over heads,
  added up over the layers and over the tokens of the answer. Each weight is spread evenly over the pixels that its
  token shows.
- "gradient": the gradient of the answer's log-probability times the input, absolute, for every pixel of the views and
  of the high-res canvas, each spread over the pixels of the image that it was drawn from. One pixel's gradient is
  noise: the heat of a pixel is that of the window around it that is as large as a patch of the low-res tower.

An overview and tiles show the image twice, and a high-res canvas once more: what lies over one pixel is added up.
What falls on padding is left out, as are newline and separator vectors and tokens that pruning left out.

Shapes: H and W are height and width of the image in pixels, N the number of its image tokens, L of layers.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers.image_utils import ImageInput

from fila.look.boxes import Box999, to_999
from fila.look.processed_image import Seen, joined, look
from fila.look.view_settings import Eyes
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.canvas_plan import Box
from fila.processing.image_input import load_images, to_channels_first
from fila.processing.processing_fila import FilaProcessor
from fila.processing.token_boxes import cell_edges, view_and_content
from fila.training.answering import Watch

METHODS = ("attention", "gradient")
Floats = npt.NDArray[np.floating[Any]]
# Of a row of the prompt; the rest of the inputs are of images.
OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


class ExplainError(ValueError):
    """An answer cannot be explained by this method, or there is nothing to explain."""


@dataclass(frozen=True)
class HotBox:
    """A part of an image that an answer comes from.

    Attributes:
        box: In pixels of the image.
        box_999: The same from 0 to 999.
        share: Of all heat on the image, from 0 to 1.
    """

    box: Box
    box_999: Box999
    share: float


@dataclass(frozen=True)
class Explanation:
    """Where an answer comes from.

    Attributes:
        image: The image, upright, RGB.
        question: The question.
        answer: The answer, generated or given.
        method: "attention" or "gradient".
        heat: `(H, W)` float, not negative; adds up to 1 unless it is 0 everywhere.
    """

    image: Image.Image
    question: str
    answer: str
    method: str
    heat: Floats

    def boxes(self, count: int = 5) -> list[HotBox]:
        """Return the parts with most heat, the one with the hottest pixel first."""
        from fila.look.heat import hot_boxes

        size = self.heat.shape[0], self.heat.shape[1]
        return [HotBox(box, to_999(box, size), share) for box, share in hot_boxes(self.heat, count)]

    def picture(self, title: str = "") -> Image.Image:
        """Return a picture of the image under its heat, with question, answer and the hottest part."""
        from fila.look.heat import draw_heat

        return draw_heat(self, title)

    def told(self) -> dict[str, Any]:
        """Return question, answer, method and boxes as plain JSON."""
        height, width = self.heat.shape
        return {
            "question": self.question,
            "answer": self.answer,
            "method": self.method,
            "height": height,
            "width": width,
            "boxes": [
                {"pixels": [box.left, box.top, box.right, box.bottom], "norm999": [*found.box_999], "share": share}
                for found in self.boxes()
                for box, share in [(found.box, round(found.share, 4))]
            ],
        }


def explain(
    model: FilaForConditionalGeneration,
    processor: FilaProcessor,
    image: ImageInput | str,
    question: str,
    *,
    answer: str | None = None,
    method: str = "attention",
    max_new_tokens: int = 256,
) -> Explanation:
    """Explain an answer about one image.

    Args:
        model: The model, in eval mode.
        processor: Its processor.
        image: An image: of PIL, an array, a file's name, a page of a document.
        question: Text after the image.
        answer: The answer to explain; the model's own, greedy, if not given.
        method: "attention" or "gradient".
        max_new_tokens: Longest answer that is generated, in tokens.

    Returns:
        The explanation.

    Raises:
        ExplainError: If there is no such method, the answer has no tokens, or the model has no such attention: its
            image tokens stand for no place (those of learned queries), or its language model returns no weights.
        ImageInputError: If the image cannot be used.
    """
    if method not in METHODS:
        raise ExplainError(f"`method` must be one of {list(METHODS)}; got {method!r}.")
    if getattr(processor, "packed_images", False):
        processor = copy.copy(processor)
        processor.packed_images = False
    page = load_images(image, page_size=processor.image_processor.page_size)
    parts = model.model.vision_tower.fusion, model.model.multi_modal_projector
    seen = look(Eyes.of(model.config, processor, "", parts), page)
    if method == "attention":
        check_places(model, seen)
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image", "image": page}, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    if answer is None:
        answer, ids = generated(model, processor, inputs, max_new_tokens)
    else:
        ids = processor.tokenizer(answer, add_special_tokens=False).input_ids
    if not ids:
        raise ExplainError(f"The answer must have a token; {answer!r} has none. Give another with `answer`.")
    if method == "attention":
        weights = attention_to_image(model, dict(inputs), ids)
        heat = heat_of_tokens(seen, combined(weights))
    else:
        heat = heat_of_gradients(seen, *pixel_gradients(model, dict(inputs), ids))
        content = seen.plan.content_box.size
        for axis in (0, 1):
            heat = smoothed(heat, axis, model.config.patch_size * seen.source_size[axis] / content[axis])
    upright = to_channels_first(page, None, 0, to_rgb=True, to_uint8=True, data_format=None)
    shown = Image.fromarray(np.ascontiguousarray(upright.transpose(1, 2, 0)))
    return Explanation(shown, question, answer, method, heat / (heat.sum() or 1))


def check_places(model: FilaForConditionalGeneration, seen: Seen) -> None:
    """Reject models whose image tokens stand for no place.

    Raises:
        ExplainError: If a view's tokens lie on no grid; names the part that makes them.
    """
    if None in seen.token_grids:
        config = model.config
        pruned = config.prune is not None and config.prune["type"] == "visionzip"
        part = (
            "`prune` 'visionzip'"
            if pruned
            else f"fusion {config.fusion['type']!r} and connector {config.connector['type']!r}"
        )
        raise ExplainError(
            f"The image tokens of {part} stand for no place of the image, so that attention to them says nothing of "
            "where. Use `method` 'gradient'."
        )


def generated(
    model: FilaForConditionalGeneration, processor: FilaProcessor, inputs: Any, max_new_tokens: int
) -> tuple[str, list[int]]:
    """Return the model's greedy answer and its token ids without end tokens."""
    watch = Watch(processor.tokenizer, stop_repetition=True, confidence=False)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        made = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, **watch.arguments())
    ends = model.generation_config.eos_token_id
    row = made[0, length:].tolist()
    (found,) = watch.answers([row], ends)
    last = {*(ends if isinstance(ends, list) else [ends]), processor.tokenizer.pad_token_id}
    ids = row[: found.tokens]
    while ids and ids[-1] in last:
        ids.pop()
    return found.text, ids


@torch.no_grad()
def attention_to_image(model: FilaForConditionalGeneration, inputs: dict[str, Any], ids: Sequence[int]) -> Floats:
    """Return the weights with which the tokens that predict an answer read the image tokens.

    The prompt but its last token runs with the model's own attention, the rest with the one that returns weights.

    Args:
        model: The model.
        inputs: Of the prompt, one row.
        ids: Tokens of the answer.

    Returns:
        `(L, heads, len(ids), N)`, for each token of the answer the weights of the token before it.

    Raises:
        ExplainError: If the language model returns no weights of softmax attention.
    """
    prompt = inputs["input_ids"]
    length = prompt.shape[1]
    whole = torch.cat([prompt, prompt.new_tensor([list(ids)])], dim=1)
    first = {name: value[:, : length - 1] if name in OF_TEXT else value for name, value in inputs.items()}
    before = model(**first, use_cache=True, logits_to_keep=1)
    rest: dict[str, Any] = {
        "input_ids": whole[:, length - 1 : -1],
        "attention_mask": torch.ones_like(whole[:, :-1]),
        CACHE_NAME: getattr(before, CACHE_NAME),
    }
    if model.config.shared_positions:
        rest["position_ids"] = model.model.shared_position_ids(whole[:, :-1], None)[:, length - 1 :]
    with eager_attention(model.model.language_model):
        layers = model(**rest, use_cache=True, output_attentions=True).attentions
    columns = (prompt[0] == model.config.image_token_id).nonzero()[:, 0]
    wanted = len(ids), whole.shape[1] - 1
    found = [layer[0, :, :, columns] for layer in layers or () if layer is not None and layer.shape[-2:] == wanted]
    if not found:
        raise ExplainError(
            f"The language model {model.config.text_config.model_type!r} returns no attention weights over the whole "
            "prompt. Use `method` 'gradient'."
        )
    return cast(Floats, torch.stack(found).float().cpu().numpy())


@contextmanager
def eager_attention(language_model: Any) -> Iterator[None]:
    """Let a language model compute its attention so that it returns the weights, inside of the block."""
    before = language_model.config._attn_implementation
    language_model.set_attn_implementation("eager")
    try:
        yield
    finally:
        language_model.set_attn_implementation(before)


def combined(weights: Floats) -> Floats:
    """Return the weight `(N,)` of each image token for a whole answer, from `attention_to_image`."""
    return cast(Floats, weights.mean(axis=1).sum(axis=(0, 1)))


def pixel_gradients(
    model: FilaForConditionalGeneration, inputs: dict[str, Any], ids: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the gradient of an answer's log-probability times the input, added up over colours, absolute.

    Returns:
        One `(V, S, S)` for the views, or `(V, p, L * p)` where they differ in size, and one for the high-res canvas,
        `(H', W')`, or None if the model has none. Zeros for what the model does not read.
    """
    prompt = inputs["input_ids"]
    answer = prompt.new_tensor([list(ids)])
    whole = {**inputs, "input_ids": torch.cat([prompt, answer[:, :-1]], dim=1)}
    for name in OF_TEXT[1:]:
        if name in inputs:
            value = 1 if name == "attention_mask" else 0
            whole[name] = torch.nn.functional.pad(inputs[name], (0, answer.shape[1] - 1), value=value)
    names = [name for name in ("pixel_values", "high_res_pixel_values") if name in inputs]
    with torch.enable_grad():
        pixels = [inputs[name].detach().to(model.dtype).requires_grad_() for name in names]
        whole |= dict(zip(names, pixels, strict=True))
        logits = model(**whole, use_cache=False, logits_to_keep=answer.shape[1]).logits.float()
        logprob = logits.log_softmax(-1).gather(2, answer[..., None]).sum()
        gradients = torch.autograd.grad(logprob, pixels, allow_unused=True)
    found = [
        torch.zeros_like(value[0, ..., 0, :, :]) if gradient is None else (gradient * value)[0].float().sum(-3).abs()
        for gradient, value in zip(gradients, pixels, strict=True)
    ]
    views, *canvas = (each.detach().float().cpu() for each in found)
    if canvas:
        rows, cols = inputs["high_res_sizes"][0].tolist()
        return views, canvas[0][:rows, :cols]
    return views, None


def heat_of_tokens(seen: Seen, weights: Sequence[float] | Floats) -> Floats:
    """Spread the weight of each image token evenly over the pixels of the image that it shows.

    Args:
        seen: The processed image, whose views' tokens all lie on grids.
        weights: One per image token of the prompt.

    Returns:
        `(H, W)`; of a token that shows padding too, its part of the weight.
    """
    if len(weights) != seen.num_tokens:
        raise ExplainError(f"There must be a weight for each of {seen.num_tokens} image tokens; got {len(weights)}.")
    of_view = np.zeros(seen.starts[-1])
    for token, weight in zip(seen.tokens, weights, strict=True):
        if token >= 0:
            of_view[token] += weight
    heat = np.zeros(seen.source_size)
    for view, grid in enumerate(seen.token_grids):
        cells = of_view[seen.starts[view] : seen.starts[view + 1]].reshape(cast("tuple[int, int]", grid))
        heat += spread(cells, *view_and_content(seen.plan, view), seen.source_size)
    return heat


def heat_of_gradients(seen: Seen, views: torch.Tensor, canvas: torch.Tensor | None) -> Floats:
    """Spread what `pixel_gradients` returns over the pixels of the image, `(H, W)`."""
    heat = np.zeros(seen.source_size)
    for view, (size, pixels) in enumerate(zip(seen.plan.view_sizes, views.numpy(), strict=False)):
        if pixels.shape != size:  # patches side by side
            grid = [side // len(pixels) for side in size]
            pixels = joined(pixels[None], grid)[0]
        heat += spread(pixels, *view_and_content(seen.plan, view), seen.source_size)
    if canvas is not None:
        whole = Box(0, 0, *seen.plan.canvas_size)
        heat += spread(canvas.numpy(), whole, seen.plan.content_box, seen.source_size)
    return heat


def spread(cells: Floats, view: Box, content: Box, size: tuple[int, int]) -> Floats:
    """Spread the values of a view's cells evenly over the pixels of the image that they show.

    Args:
        cells: `(rows, cols)`.
        view: The view, and
        content: the whole image, as `view_and_content` returns them.
        size: (H, W) of the image.

    Returns:
        `(H, W)`.
    """
    rows, cols = (shares(view, content, axis, cells.shape[axis], size[axis]) for axis in (0, 1))
    return cast(Floats, rows @ cells @ cols.T)


def shares(view: Box, content: Box, axis: int, count: int, length: int) -> Floats:
    """Return which share of each cell lies on each pixel of an axis of the image, `(length, count)`.

    The numbers are compared as integers: a pixel that a cell does not touch has 0.
    """
    edge, unit = cell_edges(view, content, axis, count, length)
    edges = np.array([edge(index) for index in range(count + 1)], dtype=np.int64)
    pixels = np.arange(length, dtype=np.int64)[:, None] * unit
    shown = np.minimum(pixels + unit, edges[1:]) - np.maximum(pixels, edges[:-1])
    return cast(Floats, np.maximum(shown, 0) / np.diff(edges))


def smoothed(heat: Floats, axis: int, window: float) -> Floats:
    """Return the sums of a map over a window of so many pixels around each pixel, along one axis, exactly.

    Pixels on the edge of the window count by their part in it; outside of the map there is nothing.
    """
    length = heat.shape[axis]
    total = np.cumsum(np.insert(heat, 0, 0, axis=axis), axis=axis)
    middles = np.arange(length) + 0.5

    def up_to(edges: Floats) -> Floats:
        edges = np.clip(edges, 0, length)
        whole = np.minimum(edges.astype(np.int64), length - 1)
        part = np.expand_dims(edges - whole, 1 - axis)
        return np.take(total, whole, axis) * (1 - part) + np.take(total, whole + 1, axis) * part

    return np.maximum(up_to(middles + window / 2) - up_to(middles - window / 2), 0)
