# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Greedy answers to batches of questions, with one vision pass for all questions about an image."""

import copy
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import Cache, DynamicLayer
from transformers.generation.streamers import BaseStreamer

from fila.modeling.image_tokens import take_rows
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.modeling.modeling_fila import IMAGE_INPUTS, FilaForConditionalGeneration
from fila.modeling.modeling_outputs import FilaImageFeatures
from fila.processing.processing_fila import FilaProcessor

from .collator import FilaCollator, readable_source
from .confidence import AnswerScores
from .data import Question
from .repetition import Repetition, RepetitionStop, stopped_by

# Older transformers would pass features that were computed before to every step of generation.
_TAKES_FEATURES = hasattr(GenerationMixin, "_supports_mm_encoder_outputs")
PLAIN = {"max_new_tokens", "min_new_tokens", "do_sample", "pad_token_id"}  # with these a prompt may begin with a cache


class Generated(NamedTuple):
    """A generated answer.

    Attributes:
        text: The answer, stripped, without control tokens.
        tokens: Number of its tokens, the end token too.
        logprob: Log-probability of all of them together, where it was asked for.
        cut: What the answer repeated when it was stopped; the text has it once.
    """

    text: str
    tokens: int
    logprob: float | None = None
    cut: Repetition | None = None

    @property
    def confidence(self) -> float:
        """Return the probability of the answer, 1 where it was not asked for."""
        return 1.0 if self.logprob is None else math.exp(self.logprob)

    def told(self) -> dict[str, Any]:
        """Return log-probability, confidence and what was cut off, as plain JSON without what there is not."""
        found: dict[str, Any] = {}
        if self.logprob is not None:
            found["logprob"] = round(self.logprob, 4)
            found["mean_logprob"] = round(self.logprob / max(1, self.tokens), 4)
            found["confidence"] = round(self.confidence, 4)
        if self.cut is not None:
            found["cut"] = {"unit": self.cut.unit, "times": self.cut.times}
        return found


class Answerer:
    """Model and processor that answer batches of questions.

    An image that several questions of a batch are about is encoded once, and so is one that the batch before had too.
    Where all questions of a batch are about the same images, so does the language model with what every prompt begins
    with, to the last image token. The answers are those to the questions asked apart. Older transformers, sharded
    models and videos encode for each question.

    Args:
        model: The model, in eval mode.
        processor: Its processor.
        max_new_tokens: Longest answer.
        stop_repetition: Whether to stop answers that repeat themselves without end, see `repetition.py`.
        confidence: Whether to return log-probabilities.
        **generation: Further arguments of `generate`, which is greedy.
    """

    def __init__(
        self,
        model: FilaForConditionalGeneration,
        processor: FilaProcessor,
        max_new_tokens: int = 64,
        *,
        stop_repetition: bool = False,
        confidence: bool = False,
        **generation: Any,
    ) -> None:
        self.stop_repetition, self.confidence = stop_repetition, confidence
        self.model, self.processor = model, processor
        self.collate = FilaCollator(processor, generate=True)
        self.generation = {
            "max_new_tokens": max_new_tokens,
            "do_sample": False,
            "pad_token_id": processor.tokenizer.pad_token_id,
            **generation,
        }
        # tokens, gaps and streams by image, of the last batch
        self._features: dict[str, tuple[torch.Tensor, ...]] = {}
        self._prefix: tuple[list[str], list[int], Cache] | None = None  # images, ids and what the model makes of them

    @torch.no_grad()
    def __call__(self, questions: Sequence[Question], *, streamer: BaseStreamer | None = None) -> list[Generated]:
        """Answer a batch of questions, padded on the left; `streamer` gets the tokens of a single one."""
        names = ("images", "videos", "messages")
        inputs = self.collate([{name: getattr(asked, name) for name in names} for asked in questions])
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        rows = [self._keys(asked) for asked in questions]
        keys = [key for row in rows for key in row]
        can_share = _TAKES_FEATURES and self.model._supports_mm_encoder_outputs()
        if can_share and keys and "image_position_ids" not in inputs:  # rows of `packed_images` are left as they are
            several = len(rows) > 1 or all(key in self._features for key in keys)
            features = self._encoded(inputs, keys)
            same = all(row == rows[0] for row in rows) and not any(asked.videos for asked in questions)
            prefix = self._prefix_ids(inputs, features) if several and same else None
            if prefix is None:
                inputs["mm_encoder_outputs"] = {"image": features}
            else:
                inputs = self._after_prefix(inputs, prefix, rows[0], features)
        length = inputs["input_ids"].shape[1]
        watch = Watch(self.processor.tokenizer, stop_repetition=self.stop_repetition, confidence=self.confidence)
        tokens = self.model.generate(**inputs, **self.generation, **watch.arguments(), streamer=streamer)[:, length:]
        return watch.answers(tokens.tolist(), self.model.generation_config.eos_token_id)

    def _keys(self, asked: Question) -> list[str]:
        """Return a key of each image, equal for images that become the same features."""
        keys = [source_key(image) for image in asked.images]
        if self.processor.max_prompt_image_tokens and self.processor.image_token_policy == "shrink_images":
            # then the size of an image depends on its place among those of its prompt
            return [f"{number} of {keys}" for number in range(len(keys))]
        return keys

    def _encoded(self, inputs: dict[str, Any], keys: list[str]) -> FilaImageFeatures:
        """Take the images out of the inputs and return their features, one entry per image."""
        kept = {key: self._features[key] for key in keys if key in self._features}
        new = list(dict.fromkeys(key for key in keys if key not in kept))
        in_runs = inputs.get("image_token_index") is not None
        images = take_rows(inputs, IMAGE_INPUTS, [keys.index(key) for key in new])
        if new:
            found: Any = self.model.get_image_features(**images, return_dict=True)
            tokens = found.pooler_output
            gaps = getattr(found, "gaps", None) or [torch.zeros(len(own), dtype=torch.int64) for own in tokens]
            streams = getattr(found, "deepstack_features", None) or []
            kept |= dict(zip(new, zip(tokens, gaps, *streams, strict=True), strict=True))
        self._features = kept
        every = [kept[key] for key in keys]
        tokens, gaps, *streams = ([*parts] for parts in zip(*every, strict=True))
        return FilaImageFeatures(
            pooler_output=cast(Any, tokens),
            in_runs=in_runs,
            gaps=gaps if any(bool(own.any()) for own in gaps) else None,
            deepstack_features=streams or None,
        )

    def _prefix_ids(self, inputs: dict[str, Any], features: FilaImageFeatures) -> list[int] | None:
        """Return the ids of all rows to the last image token, None where they differ or the cache is not plain."""
        layers, defaults = (
            DynamicCache(config=self.model.config.get_text_config()).layers,
            self.model.generation_config,
        )
        plain = (
            not {*self.generation} - PLAIN and defaults.num_beams in (None, 1) and not defaults.cache_implementation
        )
        if not plain or any(type(layer) is not DynamicLayer for layer in layers):
            return None
        if self.model.config.shared_positions or features.gaps is not None:  # positions do not count tokens there
            return None
        prefixes = []
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            own = ids[mask.bool()].tolist()
            placeholders = [place for place, token in enumerate(own) if token in self.model.config.placeholder_ids()]
            prefixes.append(own[: placeholders[-1] + 1])
        return prefixes[0] if all(prefix == prefixes[0] for prefix in prefixes) else None

    def _after_prefix(
        self, inputs: dict[str, Any], prefix: list[int], keys: list[str], features: FilaImageFeatures
    ) -> dict[str, Any]:
        """Return inputs of `generate` that begin with the cache of a prefix; padding stands behind the prefix."""
        if self._prefix is None or self._prefix[:2] != (keys, prefix):
            self._prefix = None  # frees the memory of the last one first
            ids = inputs["input_ids"].new_tensor([prefix])
            streams = features.deepstack_features
            of_one = FilaImageFeatures(
                pooler_output=cast(Any, features.pooler_output)[: len(keys)],
                in_runs=features.in_runs,
                deepstack_features=streams and [stream[: len(keys)] for stream in streams],
            )
            encoded: Any = {"image": of_one}
            made = self.model(input_ids=ids, mm_encoder_outputs=encoded, use_cache=True, logits_to_keep=1)
            self._prefix = keys, prefix, getattr(made, CACHE_NAME)
        cache = copy.deepcopy(self._prefix[2])
        cache.batch_repeat_interleave(len(inputs["input_ids"]))
        ids, mask = inputs["input_ids"].clone(), inputs["attention_mask"].clone()
        for row, kept in zip(ids, mask, strict=True):
            begins = len(kept) - int(kept.sum())
            row[begins : begins + len(prefix)] = self.generation["pad_token_id"]
            kept[begins : begins + len(prefix)] = 0
            row[: len(prefix)] = row.new_tensor(prefix)
            kept[: len(prefix)] = 1
        return {"input_ids": ids, "attention_mask": mask, CACHE_NAME: cache}


class Watch:
    """What watches one call of `generate`, and reads its answers.

    Args:
        tokenizer: What decodes them.
        stop_repetition: As in `Answerer`.
        confidence: As in `Answerer`.
    """

    def __init__(self, tokenizer: Any, *, stop_repetition: bool, confidence: bool) -> None:
        self.tokenizer = tokenizer
        self.stop = RepetitionStop(tokenizer) if stop_repetition else None
        self.scores = AnswerScores() if confidence else None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        found = {} if self.scores is None else self.scores.arguments()
        if self.stop is not None:
            found["stopping_criteria"] = [*found.get("stopping_criteria", ()), self.stop]
        return found

    def answers(self, rows: Sequence[Sequence[int]], ends: int | Sequence[int] | None) -> list[Generated]:
        """Return the answers.

        Args:
            rows: New tokens of each row, padded at their end.
            ends: End tokens; the first of them counts, also where it pads.
        """
        last = set(ends if isinstance(ends, Sequence) else [ends])
        padding = {*last, self.tokenizer.pad_token_id}
        lengths, cuts = [], []
        for row in rows:
            length = next((number for number, token in enumerate(row, 1) if token in last), len(row))
            cut = None
            if self.stop is not None:
                own = length
                while own and row[own - 1] in padding:
                    own -= 1
                cut = stopped_by(row[:own], self.tokenizer)
                length = length if cut is None else own
            lengths.append(length)
            cuts.append(cut)
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        texts = [text if cut is None else cut.cut(text) for text, cut in zip(texts, cuts, strict=True)]
        totals: Sequence[float | None] = [None] * len(texts)
        if self.scores is not None:
            totals = self.scores.totals(lengths)
        found = zip(texts, lengths, totals, cuts, strict=True)
        return [Generated(text.strip(), length, total, cut) for text, length, total, cut in found]


def source_key(source: Any) -> str:
    """Return a file's name or address, else a digest of an image's bytes or pixels."""
    source = readable_source(source)
    if isinstance(source, str | Path):
        text = str(source)
        return text if len(text) < 1000 else _digest(text.encode())
    return _digest(source if isinstance(source, bytes) else _pixels(source))


def _pixels(image: Any) -> bytes:
    pixels = np.asarray(image)
    told: list[Any] = [pixels.shape, pixels.dtype]
    if isinstance(image, Image.Image):  # what its stored pixels mean
        told += [image.mode, image.getpalette(), image.info.get("transparency"), image.getexif().get(0x0112)]
    return str(told).encode() + pixels.tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
