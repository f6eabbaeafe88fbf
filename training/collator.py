# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Collator: make a batch for the model from samples with images and messages.

A sample is a dict with the lists `images` and `videos`, and `messages`. The n-th image belongs to the n-th `{"type":
"image"}` part of the messages, and likewise for videos, as in TRL's vision datasets. A single image may be given as
`image`, and a part may name its own source. A list of samples in place of one, from `PackedSamples`, becomes a part
of one row of all samples, without padding. The collator works with `transformers.Trainer`
(`remove_unused_columns=False`) and TRL.

Only the assistant's tokens are supervised. Each sample is checked: at least one token is supervised, and no
placeholder or padding token is.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from fila.modeling.pruning import gaps_of, shifts
from fila.processing.chat_messages import SOURCES, MessageError, check_messages
from fila.processing.chat_template import writes_tool_calls
from fila.processing.image_input import ImageInputError, load_images, to_channels_first

IGNORED = -100
logger = logging.get_logger(__name__)


def read_sample(sample: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check a sample and collect its images and videos in the order of their parts.

    The sources are the lists `images` and `videos`, a single `image` or `video`, or the parts themselves.

    Args:
        sample: Sample from a dataset.
        name: Name of the sample in errors.

    Returns:
        The sample with lists `images` and `videos`, one entry per part; the parts name no source.

    Raises:
        ValueError: If the sample is not a conversation, or an image or a video would be lost.
    """
    found = {**sample, **{kind: _given(sample, kind, name) for kind in ("images", "videos")}}
    if not sample.get("messages") and sample.get("fields"):
        return found  # its questions are asked after all of its images
    found["messages"] = _checked_messages(sample, name)
    name = _long_name(found, name)
    for kind in ("image", "video"):
        _gather(found, kind, name)
    return found


def _given(sample: Mapping[str, Any], column: str, name: str) -> list[Any]:
    """Return the images or videos that a sample gives outside of its messages."""
    one, several = sample.get(column[:-1]), sample.get(column)
    has_one = one is not None and not (isinstance(one, str) and not one)
    if several is not None and not isinstance(several, list | tuple):
        raise ValueError(f"{name} must have a list as `{column}`; got {several!r:.60}.")
    if has_one and several:
        raise ValueError(f"{name} has both `{column[:-1]}` and `{column}`; put all into `{column}`.")
    return [one] if has_one else list(several or [])


def _checked_messages(sample: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    if "messages" not in sample:
        raise ValueError(
            f"{name} has no `messages`; its columns are {sorted(sample)}. `Trainer` takes away the columns that the "
            "model does not name, unless its arguments have `remove_unused_columns=False`."
        )
    try:
        return check_messages(sample["messages"], "", takes_videos=True)
    except MessageError as error:
        raise ValueError(
            f"{name} must have `messages`, each with a `role` and a `content` that is text or a list of parts with a "
            f"`type`. {error}"
        ) from error


def _gather(sample: dict[str, Any], kind: str, name: str) -> None:
    """Move the sources of one kind from a sample's parts into its list, in the order of the parts."""
    given, tag = sample[f"{kind}s"], f"<{kind}>"
    waiting, gathered, messages = list(given), [], []
    for message in sample["messages"]:
        if isinstance(message.get("content"), list):
            message = {**message, "content": [*message["content"]]}
            for number, part in enumerate(message["content"]):
                if part["type"] == kind:
                    own = [part[key] for key in SOURCES[kind] if key in part]
                    gathered.append(own[0] if own else waiting.pop(0) if waiting else None)
                    message["content"][number] = {"type": kind}
                    given = given + own
        messages.append(message)
    tags = sum(message_text(message).count(tag) for message in messages)
    if len(gathered) != len(given) or (tags and not gathered):
        told = f' Its text has {tags} "{tag}", which stand for none: write them as parts, or as "< {kind}>".'
        raise ValueError(
            f'{name} must have one {{"type": "{kind}"}} part in its messages for each of its {kind}s; it has '
            f"{len(gathered)} parts and {len(given)} {kind}s.{told if tags else ''}"
        )
    sample.update({"messages": messages, f"{kind}s": gathered})


def bind_images(sample: Mapping[str, Any], images: Sequence[Any]) -> list[dict[str, Any]]:
    """Put the images and videos of a sample into the parts of its messages.

    Args:
        sample: Sample as returned by `read_sample`.
        images: Its images, loaded.

    Returns:
        New messages.
    """
    sources = {"image": iter(images), "video": iter(sample["videos"])}
    messages = []
    for message in sample["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            kinds = [part["type"] for part in content]
            content = [
                {"type": kind, kind: next(sources[kind])} if kind in sources else part
                for kind, part in zip(kinds, content, strict=True)
            ]
            message = {**message, "content": content}
        messages.append(message)
    return messages


def count_parts(messages: Sequence[Mapping[str, Any]], kind: str) -> int:
    """Count the parts of a type in messages."""
    contents = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    return sum(part["type"] == kind for content in contents for part in content)


@dataclass
class FilaCollator:
    """Collator that makes batches for training, or prompts for generation.

    Args:
        processor: A `FilaProcessor` whose chat template marks the assistant's text, or writes messages one after the
            other.
        generate: Make prompts for generation, padded on the left, without labels. Otherwise the collator makes labels
            and pads on the right.
        max_length: Longest sequence in tokens. A longer sample is cut at its end, if the cut removes no image token
            and leaves a supervised token; a prompt is never cut.
        random_scale: Bounds of the factor by which the images of a sample are resized, drawn evenly on a logarithmic
            scale. The factor depends only on the seed, the epoch and the sample's content, so a resumed training run
            and other numbers of workers or processes draw the same factors. `FilaTrainer` calls `set_epoch`; other
            trainers do not, so all their epochs draw the same factors.
        seed: Random seed of `random_scale`.
        loss_weight: Function from the sizes (height, width) of a sample's images to its `loss_weight`. It needs
            `FilaTrainer`: another trainer passes the weights to the model, which rejects them.

    Raises:
        ValueError: If an option is out of range; when called, naming the sample that cannot be used.
    """

    processor: Any
    generate: bool = False
    max_length: int | None = None
    random_scale: Sequence[float] | None = None
    seed: int = 0
    loss_weight: Callable[[Sequence[tuple[int, int]]], float] | None = None
    # in shared memory, so that persistent workers see it too
    _epoch: torch.Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64).share_memory_(), repr=False)

    def __post_init__(self) -> None:
        bounds = self.random_scale
        if bounds is not None and (len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]):
            raise ValueError(f"`random_scale` must be two rising positive factors; got {list(bounds)}.")

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next batches."""
        self._epoch[0] = epoch

    def for_evaluation(self) -> "FilaCollator":
        """Return a copy of this collator without augmentation and loss weights."""
        return replace(self, random_scale=None, loss_weight=None)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate samples.

        Args:
            samples: Dicts with `messages` and, unless they are text alone, `images`; or lists of such dicts.

        Returns:
            `input_ids`, `attention_mask` `(B, L)`, the image tensors of the processor, and in training `labels`
            `(B, L)` and, if asked for, `loss_weight` `(B,)`. For lists: `input_ids`, `labels`, `position_ids` `(1, N)`
            of all N tokens, the image tensors, and `use_cache` false.
        """
        is_packed = any(isinstance(sample, list) for sample in samples)
        if is_packed:
            if self.generate or self.loss_weight is not None:
                raise ValueError(
                    "Lists of samples share a row, which can neither be continued nor weighted: `generate` must be "
                    "false and `loss_weight` None."
                )
            samples = [one for sample in samples for one in (sample if isinstance(sample, list) else [sample])]
        samples = [read_sample(sample, f"Sample {number} of the batch") for number, sample in enumerate(samples)]
        names = [_long_name(sample, f"Sample {number} of the batch") for number, sample in enumerate(samples)]
        for name, sample in zip(names, samples, strict=True):
            _check_tools(sample, name, str(self.processor.chat_template))
            if not self.generate and any(message.get("loss") not in (None, 1) for message in sample["messages"]):
                raise ValueError(f"{name} has a message whose `loss` is not true; all answers are learnt alike.")
        try:
            images = load_images(
                [[readable_source(image) for image in sample["images"]] for sample in samples],
                page_size=self.processor.image_processor.page_size,
            )
        except ImageInputError as error:
            row = samples[error.sample].get("row") if error.sample is not None else None
            if not row:
                raise
            raise ImageInputError(error.sample, error.image, f"({row}) {error.reason}", error.fix) from error
        if self.random_scale is not None:
            images = [
                self._rescaled(own, sample, number)
                for number, (own, sample) in enumerate(zip(images, samples, strict=True))
            ]
        if self.processor.image_token_policy == "drop_sample":
            kept = self._within_limits(images, names)
            samples, images = [samples[number] for number in kept], [images[number] for number in kept]
            names = [names[number] for number in kept]
        batch = self.processor.apply_chat_template(
            [bind_images(*each) for each in zip(samples, images, strict=True)],
            add_generation_prompt=self.generate,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=not self.generate,
            processor_kwargs={"padding": True, "padding_side": "left" if self.generate else "right"},
        )
        batch = self._shortened(dict(batch), names)
        if not self.generate:
            batch["labels"] = self._labels(batch, batch.pop("assistant_masks"), names)
            if self.loss_weight is not None:
                batch["loss_weight"] = torch.tensor(
                    [self.loss_weight([open_image_size(i) for i in own]) for own in images]
                )
        return _in_one_row(batch, self.processor.image_token_id) if is_packed else batch

    def _within_limits(self, images: list[list[Any]], names: list[str]) -> list[int]:
        """Return the indices of the samples that the processor keeps; raise an error if it would drop a question."""
        kept = []
        for number, own in enumerate(images):
            try:
                self.processor._get_num_multimodal_tokens([open_image_size(image) for image in own])
                kept.append(number)
            except ValueError as error:
                if self.generate:
                    raise ValueError(f"{names[number]} is a question, which is never left out. {error}") from error
                logger.warning(f"{names[number]} is left out. {error}")
        return kept or list(range(len(images)))  # the processor says that none is left

    def _rescaled(self, images: list[Any], sample: Mapping[str, Any], number: int) -> list[Image.Image]:
        """Resize the images of a sample by one random factor."""
        assert self.random_scale is not None
        pictures = []
        content = zlib.crc32(repr(list(map(message_text, sample["messages"]))).encode())
        for index, image in enumerate(images):
            pixels = to_channels_first(image, number, index, to_rgb=True, to_uint8=True, data_format=None)
            pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            content = zlib.crc32(pixels.tobytes(), content)
            pictures.append(Image.fromarray(pixels))
        low, high = self.random_scale
        draw = Random(f"{self.seed} {int(self._epoch)} {content}").random()
        factor = low * (high / low) ** draw
        return [
            picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.BICUBIC)
            for picture in pictures
        ]

    def _shortened(self, batch: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Cut samples longer than `max_length`, if no image token is lost and a supervised token remains."""
        ids, limit = batch["input_ids"], self.max_length
        if limit is None or ids.shape[1] <= limit:
            return batch
        for row, name in enumerate(names):
            length = int(batch["attention_mask"][row].sum())
            num_cut = int(self._placeholders(ids[row, limit:]).sum())
            if length > limit and (self.generate or num_cut):
                total = int(self._placeholders(ids[row]).sum())
                what = "a prompt is never cut" if self.generate else f"cutting it would lose {num_cut} of them"
                raise ValueError(
                    f"{name} has {length} tokens, {total} of them image tokens, and may have {limit}; {what}. Raise "
                    "`max_length`, shorten the text, or choose a canvas with fewer tiles."
                )
        shape = ids.shape
        return {name: value[:, :limit] if value.shape == shape else value for name, value in batch.items()}

    def _placeholders(self, ids: torch.Tensor) -> torch.Tensor:
        """Return a mask of the placeholders of images and videos."""
        tokens = (self.processor.image_token_id, getattr(self.processor, "video_token_id", None))
        return torch.isin(ids, torch.tensor([token for token in tokens if token is not None]))

    def _labels(self, batch: dict[str, Any], mask: torch.Tensor, names: list[str]) -> torch.Tensor:
        """Return the labels: the ids of the assistant's tokens, checked sample by sample."""
        ids, supervised = batch["input_ids"], mask.bool()
        is_image, is_pad = self._placeholders(ids), batch["attention_mask"] == 0
        for row, name in enumerate(names):
            counts = [int((supervised[row] & unwanted[row]).sum()) for unwanted in (is_image, is_pad)]
            if any(counts):
                raise ValueError(
                    f"{name} must not learn tokens that stand for an image or for padding; {counts[0]} image and "
                    f"{counts[1]} padding tokens are in what its assistant wrote. Move images to the user's messages."
                )
            if not supervised[row].any():
                cut = f" or the answer lies behind `max_length` = {self.max_length}" if self.max_length else ""
                raise ValueError(
                    f"{name} has nothing to learn: none of its {int((~is_pad[row]).sum())} tokens was written by the "
                    f"assistant. It has no assistant message{cut}."
                )
        return ids.masked_fill(~supervised, IGNORED)


def _in_one_row(batch: Mapping[str, Any], image_token_id: int) -> dict[str, Any]:
    """Put the samples of a batch one after the other; each one's positions start again, which keeps them apart.

    Where images are pruned, positions have the gaps that they have in a row of their own.

    There is no mask, and no cache in training: beside either transformers does not look for the borders of samples.
    """
    real = batch["attention_mask"].bool()
    labels = batch["labels"].clone()
    labels[torch.arange(len(labels)), real.int().argmax(1)] = IGNORED  # the sample before does not predict this one
    positions = torch.arange(real.shape[1]).expand(real.shape)
    gaps = gaps_of(batch["image_token_index"]) if "image_token_index" in batch else None
    if gaps is not None:
        positions = positions + shifts(batch["input_ids"] == image_token_id, gaps)
    row = {
        "input_ids": batch["input_ids"][real][None],
        "labels": labels[real][None],
        "position_ids": positions[real][None],
        "use_cache": False,
    }
    return row | {name: value for name, value in batch.items() if name not in ("attention_mask", *row)}


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message, without its images."""
    content = message.get("content")
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content or [])


def _check_tools(sample: Mapping[str, Any], name: str, template: str) -> None:
    """Reject tools, and tool calls that the chat template would drop."""
    if sample.get("tools"):
        raise ValueError(f"{name} has `tools`, which would not be written. Describe them in a system message.")
    if not writes_tool_calls(template) and any(message.get("tool_calls") for message in sample["messages"]):
        raise ValueError(f"{name} has `tool_calls`, which the chat template does not write.")


def _long_name(sample: Mapping[str, Any], name: str) -> str:
    """Return a sample's name for errors: its row or its index and `id`, and the beginning of its text."""
    if sample.get("row"):
        return f"{name} ({sample['row']})"
    identity = f" with id {sample['id']!r}" if sample.get("id") is not None else ""
    words = " ".join(map(message_text, sample["messages"]))
    return f"{name}{identity} ({words[:40]!r})"


def readable_source(image: object) -> object:
    """Return the source to open: `datasets` gives a dict of bytes and path for an image that it does not decode."""
    if isinstance(image, Mapping):
        return image.get("bytes") or image.get("path")
    return image


def open_image_size(image: object) -> tuple[int, int]:
    """Return height and width of an open image."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    pixels = to_channels_first(image, None, 0, to_rgb=False, to_uint8=False, data_format=None)
    return int(pixels.shape[1]), int(pixels.shape[2])
