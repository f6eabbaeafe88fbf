# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FilaProcessor: tokenizer and image processor in one call.

Each `<image>` of a prompt becomes the placeholders of the image's tokens, counted on the same `CanvasPlan` that the
pixels are rendered from, in the order and with the text that the prompt layout gives (`layout.py`). FILA's layout is
one run of `views x tokens_per_tile` placeholders.

If the layout reorders views or puts text or newline vectors between them, the processor adds one row per image of:

    image_token_index  (I, N)     int64  for each placeholder its token, counted over the image's views, overview
                                         first; -1 the newline vector, -2 beyond an image's placeholders, -3 the
                                         separator vector
    view_positions     (I, V, 2)  int64  with `slice_positions`: (row, col) of each tile, -1 for an overview, -2 beyond
                                         an image's views

With `prune`, -4 - t in `image_token_index` stands for token t that has no placeholder, see `token_pruning.py`.
"""

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any, Unpack, cast

import numpy as np
from transformers import BatchFeature, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import ImageInput
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin
from transformers.tokenization_utils_base import TextInput
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoInput

from .canvas import Canvas, as_options
from .canvas_plan import CanvasPlan
from .chat_control_tokens import added_token_id, control_token_pattern, control_tokens, escape_messages
from .chat_messages import MessageError, check_conversation, check_samples
from .chat_template import DEFAULT_CHAT_TEMPLATE, marks_assistant, with_escapes, with_values
from .image_fingerprint import check_preprocessing, refuse_misspelt, trained_with
from .image_input import scales_to_given
from .layout import Geometry, as_saved, as_text, build_layout, count_tokens, lay_out, slice_positions, token_indices
from .processor_features import feature
from .processor_needs_fila import from_fila
from .token_rows import token_rows

__all__ = ["DEFAULT_CHAT_TEMPLATE", "FilaProcessor"]

logger = logging.get_logger(__name__)

DEFAULT_LAYOUT = {"type": "fila"}
POLICIES = ("error", "drop_sample", "shrink_images")
# Settings that videos have and images have not.
OF_VIDEOS = ("sampling", "do_sample_frames", "start", "end", "max_frames", "antialias")
# Names of inputs that other processors take, or that are almost ours: transformers drops them without an error.
_NOT_TAKEN = ("audio", "audios", "image", "video")
DEFAULT_VIDEO_LAYOUT = {"type": "plain"}
# Which samples of a call `drop_sample` kept, for the call that makes assistant masks of them; None outside of it.
_KEPT: ContextVar[list[int] | None] = ContextVar("_KEPT", default=None)
# `prune` of a call that names it.
_PRUNE: ContextVar[Any] = ContextVar("_PRUNE", default=())


class FilaProcessor(ProcessorMixin):
    r"""Processor of FILA.

    Args:
        image_processor ([`FilaImageProcessor`]):
            Plans and renders the images.
        tokenizer ([`PreTrainedTokenizerFast`]):
            Its added tokens hold the image token. The processor sets `padding_side="left"`, because generation
            continues at the right end. The training collator sets its own side.
        chat_template (`str`, *optional*):
            A Jinja template, for instance `DEFAULT_CHAT_TEMPLATE`.
        tokens_per_tile (`int`, *optional*, defaults to 576):
            Number of image tokens per view. With `token_size`, the number for a view of tile size.
        image_token (`str`, *optional*, defaults to `"<image>"`):
            Placeholder of an image; a tokenizer that names an `image_token` of its own decides.
        layout (`dict`, *optional*, defaults to `{"type": "fila"}`):
            The prompt layout and the fields that it replaces, see `layout.py`.
        token_size (`int`, *optional*):
            Pixels that one image token covers, per side, where tokens lie on a grid: 14 for one token per patch of
            14 pixels. None: every view becomes `tokens_per_tile` tokens, whatever its size.
        max_image_tokens (`int`, *optional*):
            Image tokens that one image may have.
        max_prompt_image_tokens (`int`, *optional*):
            Image tokens that all images of a prompt may have. Not for serving engines, which count image by image.
        image_token_policy (`str`, *optional*, defaults to `"error"`):
            What happens to a prompt over a limit: `"error"`; `"drop_sample"` leaves it out of the batch, with a
            warning; `"shrink_images"` shrinks its images, the largest first, see `token_budget.py`.
        video_processor ([`FilaVideoProcessor`] or `dict`, *optional*):
            Chooses and renders the frames of videos, or its settings. None: there are no videos. It is no attribute in
            transformers' sense, because those cannot be left out.
        video_token (`str`, *optional*):
            Placeholder of a video, `"<video>"` where there is a video processor; a tokenizer that names a
            `video_token` of its own decides.
        video_layout (`dict`, *optional*, defaults to `{"type": "plain"}`):
            The text around the frames of a video, see `video_prompt.py`; each frame has the image's `layout`.
        clip_tokens (`dict`, *optional*):
            Tokens of a video where the connector joins frames: the model's `clip_tokens`.
        prune (`dict` or `str`, *optional*):
            Which image tokens are left out, see `token_pruning.py`; None: none. A call may name 'pixelprune' or None.
    """

    # Whether all inputs of images come as `pixel_values` and `image_position_ids`, one row per image, for TRL's GRPO
    # and RLOO trainers, which drop all others. The trainer decides it, so it is not saved.
    packed_images: bool = False
    built_video_layout: Any  # of `feature("videos")`
    write_code: Any = None  # of the `fila` package, where it is imported: see `FilaConfig`

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | dict[str, str] | None = None,
        tokens_per_tile: int = 576,
        image_token: str = "<image>",
        layout: dict[str, Any] | str | None = None,
        token_size: int | None = None,
        max_image_tokens: int | None = None,
        max_prompt_image_tokens: int | None = None,
        image_token_policy: str = "error",
        video_processor: BaseVideoProcessor | dict[str, Any] | None = None,
        video_token: str | None = None,
        video_layout: dict[str, Any] | str | None = None,
        clip_tokens: dict[str, int] | None = None,
        prune: dict[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(tokens_per_tile, int) or tokens_per_tile < 1:
            raise ValueError(f"`tokens_per_tile` must be a positive integer; got {tokens_per_tile!r}.")
        if token_size is not None and (not isinstance(token_size, int) or token_size < 1):
            raise ValueError(f"`token_size` must be a positive integer or None; got {token_size!r}.")
        for name, limit in (
            ("max_image_tokens", max_image_tokens),
            ("max_prompt_image_tokens", max_prompt_image_tokens),
        ):
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"`{name}` must be a positive integer or None; got {limit!r}.")
        if image_token_policy not in POLICIES:
            raise ValueError(f"`image_token_policy` must be one of {list(POLICIES)}; got {image_token_policy!r}.")
        self.tokens_per_tile = tokens_per_tile
        self.token_size = token_size
        self.layout = dict(DEFAULT_LAYOUT if layout is None else as_options(layout))
        self._layout = build_layout(self.layout)
        self.layout = as_saved(self.layout, self._layout)
        self.max_image_tokens = max_image_tokens
        self.max_prompt_image_tokens = max_prompt_image_tokens
        self.image_token_policy = image_token_policy
        self.image_token = getattr(tokenizer, "image_token", None) or image_token
        if tokenizer is not None:
            self.image_token_id = added_token_id(tokenizer, self.image_token, "image")
            if tokenizer.pad_token == self.image_token:
                raise ValueError(
                    f"Padding must not be images; the tokenizer's pad token is the image token {self.image_token!r}. "
                    "Set `tokenizer.pad_token` to another one, such as its eos token."
                )
            tokenizer.padding_side = "left"  # whatever side was saved: generation continues at the right end
            tokenizer.init_kwargs["padding_side"] = "left"  # or it is not saved
        if inside := [name for name, text in self._layout.texts.items() if self.image_token in text]:
            raise ValueError(
                f"The image token {self.image_token!r} must not occur in the text of the layout; it is in {inside}. "
                "Use another image token, for instance '<unk>' for MiniCPM-V."
            )
        self.video_layout = dict(DEFAULT_VIDEO_LAYOUT if video_layout is None else as_options(video_layout))
        self.clip_tokens = clip_tokens
        self.video_token: str | None = None
        self.video_token_id: int | None = None
        self.video_processor: Any = None
        if any(setting is not None for setting in (video_processor, video_layout, clip_tokens)):
            self._set_video_processor(video_processor, video_token, tokenizer)
        self.prune = None if prune is None else feature("pruning").build(prune)
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)
        if self.prune is not None:
            self._layout = feature("pruning").set_up(self, self.prune)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "FilaProcessor":
        """Load a processor and compare it with the model in its folder, see `image_fingerprint.py`.

        Settings that images have too, such as `canvas`, are the images' where a call names them.

        Raises:
            PreprocessingError: If the model was trained with other settings, and the call does not name them.
            ValueError: If the call names what is almost a setting, or one of videos where there are none.
        """
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if "padding_side" in kwargs:
            processor.tokenizer.padding_side = kwargs["padding_side"]
        of_images = processor.image_processor.valid_kwargs.__annotations__
        refuse_misspelt(kwargs, {*processor.to_dict(), *of_images, *OF_VIDEOS})
        named, changes = {*kwargs}, {name: kwargs[name] for name in OF_VIDEOS if name in kwargs}
        if processor.video_processor is not None:
            named |= feature("videos").change(processor, changes, "video_processor" in kwargs)
        elif changes:
            raise ValueError(f"The processor has no video processor, whose settings {[*changes]} are.")
        trained = trained_with(pretrained_model_name_or_path, **kwargs)
        check_preprocessing(trained, processor.preprocessing(), named=named)
        return processor

    def preprocessing(self) -> dict[str, Any]:
        """Return the settings that decide pixels, and the number and order of their tokens, as plain JSON."""
        layout = self._layout if self.prune is None else build_layout(self.layout)
        own = {"tokens_per_tile": self.tokens_per_tile, "token_size": self.token_size, "layout": layout.settings}
        if self.prune is not None:
            own["prune"] = self.prune
        if self.video_processor is not None:
            videos = self.video_processor.preprocessing()
            own |= {f"video_{name}": value for name, value in videos.items()}
            own |= {"video_layout": asdict(self.built_video_layout), "clip_tokens": self.clip_tokens}
        return self.image_processor.preprocessing() | own

    def check_model(self, model: object) -> None:
        """Check that a model, or the config of one, was trained with the settings of this processor.

        Raises:
            PreprocessingError: If it was trained with others.
            ValueError: If its tokens are not those of this processor.
        """
        config: Any = getattr(model, "config", model)
        self.check_tokens(config)
        check_preprocessing(getattr(config, "preprocessing", None), self.preprocessing())

    def check_tokens(self, config: PreTrainedConfig) -> None:
        """Check that this processor's token ids are those of a model's config.

        Raises:
            ValueError: If they do not, as with the processor of another checkpoint.
        """
        wrong = []
        for kind in ("image", "video"):
            own, other = getattr(self, f"{kind}_token_id"), getattr(config, f"{kind}_token_id", None)
            if own is not None and other is not None and own != other:
                wrong.append(f"the {kind} token has id {own} here, and {other} in the model")
        largest, size = max(self.tokenizer.get_vocab().values()), config.get_text_config().vocab_size
        if largest >= size:
            wrong.append(f"the tokenizer has ids up to {largest}, and the model {size} tokens")
        theirs = getattr(config, "prune", None) or {}
        if "visionzip" in (theirs.get("type"), (self.prune or {}).get("type")) and self.prune != {
            "cls": True,
            **theirs,
        }:
            wrong.append(f"`prune` is {self.prune} here, and {theirs or None} in the model")
        if wrong:
            raise ValueError(
                f"The processor must be the model's own: {', and '.join(wrong)}. Load both from one folder, or resize "
                "the model's embedding after adding tokens."
            )

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Return the parts that transformers loads; the video processor is optional and loaded by this class."""
        return ["image_processor", "tokenizer"]

    def _set_video_processor(
        self,
        video_processor: BaseVideoProcessor | dict[str, Any] | None,
        video_token: str | None,
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        feature("videos").set_up(self, video_processor, video_token, tokenizer)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON with the saved `auto_map`: a loaded processor equals the saved one."""
        output: dict[str, Any] = super().to_dict()
        if self.video_processor is None:
            for name in ("video_processor", "video_token", "video_layout", "clip_tokens"):
                output.pop(name, None)
        if self.prune is None:
            output.pop("prune", None)
        if self._auto_class is not None:
            module = type(self).__module__.rpartition(".")[2]
            output["auto_map"] = {self._auto_class: f"{module}.{type(self).__name__}"}
        return output

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Write the files that `from_pretrained` reads; see `ProcessorMixin.save_pretrained`.

        The chat template becomes one that keeps control tokens in messages text also where another program, such as a
        server, renders it.
        """
        templates: Any = getattr(self, "chat_template", None)
        if isinstance(templates, dict):
            templates = {name: self._escaping(template) for name, template in templates.items()}
        elif templates:
            templates = self._escaping(templates)
        self.chat_template = templates
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the settings. With `fila`, and where transformers copied code, write the code that they use too."""
        if self.write_code is not None:
            self.write_code(self, json_file_path)
        super().to_json_file(json_file_path)

    def _escaping(self, template: str) -> str:
        return with_escapes(template, control_tokens(self.tokenizer, template, self.image_token))

    def __call__(
        self,
        images: ImageInput | None = None,
        text: TextInput | list[TextInput] | None = None,
        videos: VideoInput | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature:
        """Make the model's inputs of text, images and videos; see `ProcessorMixin.__call__`.

        An empty list of images, videos or audio is none.

        Raises:
            ValueError: If there is anything of a kind that the processor does not take.
        """
        if "prune" in kwargs:
            named = _PRUNE.set((feature("pruning").of_call(self, cast("dict[str, Any]", kwargs).pop("prune")),))
            try:
                return self(images, text, videos, **kwargs)
            finally:
                _PRUNE.reset(named)
        others = {name: cast("dict[str, object]", kwargs).pop(name, None) for name in _NOT_TAKEN}
        if given := [name for name, value in others.items() if not _is_none(value)]:
            raise ValueError(
                f"The processor takes `text`, `images` and `videos`; got `{given[0]}`. Pass one image or "
                "video, or a list, under these names; there is no audio."
            )
        if self.packed_images and isinstance(images, list) and all(item is None for item in images):
            images = cast(ImageInput, [[] for _ in images])
        made = super().__call__(images=images, text=text, videos=None if _is_none(videos) else videos, **kwargs)
        if self.packed_images and images is not None and "pixel_values" not in made:
            made.update(feature("packed_images")({}))
        return made

    def prepare_inputs_layout(  # type: ignore[override]
        self, images: ImageInput | None = None, text: TextInput | list[TextInput] | None = None, **kwargs: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Wrap a single prompt in a list and load the images; no images become None."""
        if isinstance(text, list | tuple) and not text:
            raise ValueError("`text` must hold at least one prompt; got an empty list.")
        images, text, videos, audio = super().prepare_inputs_layout(images=images, text=text, **kwargs)
        if _is_none(images):
            images = None
        if self._layout.image_id_start and isinstance(images, list) and images and not isinstance(images[0], list):
            images = self._per_prompt(images, text)
        if images is not None and (self.max_image_tokens or self.max_prompt_image_tokens):
            self.validate_inputs(images=images, text=text, **kwargs)
            settings = {name: value for name, value in kwargs.items() if name not in ("videos", "audio")}
            merged = self._merge_kwargs(
                cast(ProcessingKwargs, self.valid_processor_kwargs), **settings
            )  # copies whatever it is given
            images, text, videos = feature("budget").fit(self, images, text, videos, merged, _KEPT.get())
        return images, text, videos, audio

    def _per_prompt(self, images: list[Any], text: TextInput | list[TextInput] | None) -> list[Any]:
        """Split a flat list of images into one list per prompt, because images are numbered prompt by prompt."""
        counts = [prompt.count(self.image_token) for prompt in text or () if isinstance(prompt, str)]
        if sum(counts) != len(images) or len(counts) < 2:
            return images  # `validate_inputs` raises the error
        left = iter(images)
        return type(images)([next(left) for _ in range(count)] for count in counts)

    def validate_inputs(  # type: ignore[override]
        self, images: ImageInput | None = None, text: TextInput | list[TextInput] | None = None, **kwargs: Any
    ) -> None:
        """Check that every prompt holds as many image tokens as it has images.

        Raises:
            ValueError: Naming the sample and both counts.
        """
        videos: Any = kwargs.get("videos")
        if images is None and text is None and videos is None:
            raise ValueError(f"{type(self).__name__} needs text, images or both.")
        if text is not None and (isinstance(text, str) or all(isinstance(prompt, str) for prompt in text)):
            self._check_videos(videos, [text] if isinstance(text, str) else text)
        elif videos is not None:
            self._check_videos(videos, None)
        if text is None:
            return
        prompts = [text] if isinstance(text, str) else text
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError("`text` must be a string or a list of strings.")
        token = self.image_token
        rule = f"The number of {token} tokens in the prompts should be the same as the number of images passed"
        in_text = [prompt.count(token) for prompt in prompts]
        if images is None:
            images = cast(ImageInput, [[] for _ in prompts])
        if not isinstance(images, list) or not isinstance(images[0], list):
            num_images = len(images) if isinstance(images, list) else 1
            if num_images != sum(in_text):
                raise ValueError(
                    f"{rule}: the prompts hold {in_text} (in all {sum(in_text)}), and a flat list of {num_images} was "
                    "passed. Pass one list of images per prompt to see which one is wrong."
                )
            return
        check_samples(rule, in_text, images, token, "images")

    def _check_videos(self, videos: VideoInput, prompts: list[str] | None) -> None:
        """Check that there is a video processor, and as many video tokens as videos."""
        if self.video_processor is not None:
            feature("videos").check(self, videos, prompts)
        elif videos is not None:
            raise ValueError(
                "Videos were passed to a processor without a video processor. Give it one: "
                "`FilaProcessor(..., video_processor=FilaVideoProcessor(...))`."
            )

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: object,
        chat_template: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        documents: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Render messages, and tokenize them on request; see `ProcessorMixin.apply_chat_template`.

        Messages are checked before anything that they name is opened, see `chat_messages.py`. Control tokens in the
        text of messages, tools and documents stay text, see `chat_control_tokens.py`: images come out of image parts.

        Raises:
            MessageError: For the first message that is none, or a part of it that the processor does not take.
        """
        if kwargs.pop("load_audio_from_video", False):
            raise MessageError("`load_audio_from_video` must be left out: the model does not hear.")
        template = self._template(chat_template)
        pattern = control_token_pattern(self.tokenizer, template, self.image_token)
        messages = check_conversation(conversation, takes_videos=self.video_processor is not None)
        messages = escape_messages(messages, pattern)
        kwargs |= {"tools": escape_messages(tools, pattern), "documents": escape_messages(documents, pattern)}
        if template:  # else the base says what is missing
            tokens = {"image_token": self.image_token, "video_token": self.video_token}
            chat_template = with_values(template, **{name: token for name, token in tokens.items() if token})
        wants_mask = (
            kwargs.get("tokenize") and kwargs.get("return_dict") and kwargs.get("return_assistant_tokens_mask")
        )
        if kwargs.get("continue_final_message"):
            wants_mask = False  # the base refuses the combination
        record = _KEPT.set([])
        try:
            is_theirs = hasattr(ProcessorMixin, "_adjust_assistant_masks_indices") and marks_assistant(template)
            if wants_mask and not is_theirs:
                masks = from_fila("processing.chat_assistant_masks", "A mask of the assistant's tokens")
                return masks.apply_with_masks(self, messages, chat_template, template, _of_kept, **kwargs)
            return super().apply_chat_template(messages, chat_template, **kwargs)
        finally:
            _KEPT.reset(record)

    def _adjust_assistant_masks_indices(
        self, processed_dict: dict[str, Any], generation_indices: list[Any]
    ) -> list[list[int]]:
        """Mark the assistant's tokens; newer transformers passes the spans of dropped conversations too."""
        adjusted: list[list[int]] = super()._adjust_assistant_masks_indices(  # type: ignore[misc]
            processed_dict, _of_kept(generation_indices)
        )
        return adjusted

    def _template(self, name_or_template: str | None) -> str:
        templates = self.chat_template
        if isinstance(templates, dict):
            return templates.get(name_or_template or "default") or name_or_template or ""
        return name_or_template or templates or ""

    @property
    def model_input_names(self) -> list[str]:
        """Names of the tensors that a call with text and images returns."""
        if self.packed_images:
            return [*self.tokenizer.model_input_names, "pixel_values", "image_position_ids"]
        names = [*super().model_input_names]
        names += [] if self._layout.is_one_run and not self._leaves_out else ["image_token_index"]
        if self.video_processor is not None:
            names += [*self.video_processor.model_input_names]
            names += [] if self._layout.is_one_run or self.clip_tokens else ["video_token_index"]
        return [*names, "view_positions"] if self._layout.slice_positions else names

    @property
    def unused_input_names(self) -> list[str]:
        """Names of the image processor's outputs that only token counting reads."""
        return ["image_sizes"]

    @property
    def _leaves_out(self) -> bool:
        """Whether single tokens of images are left out, in this call or by default."""
        (prune,) = _PRUNE.get() or (self.prune,)
        return prune is not None and prune["type"] == "pixelprune"

    def _process_images(self, images: ImageInput, **kwargs: Any) -> tuple[Any, list[str]]:
        if self._layout.unpad != "no":
            kwargs["return_image_sizes"] = True
        kind = kwargs.pop("return_tensors", None)
        kwargs["return_tensors"] = None if self.packed_images else kind
        processed = self.image_processor(images, **kwargs)
        if "image_scales" in processed:
            processed["image_scales"] = scales_to_given(processed["image_scales"], images)
        is_nested = isinstance(images, list) and bool(images) and isinstance(images[0], list)
        numbers = (
            [number for sample in cast("list[list[Any]]", images) for number in range(len(sample))]
            if is_nested
            else None
        )
        texts, indices, places = [], [], []
        for index in range(len(processed.get("tile_grid", ()))):
            geometry = self._geometry(processed, index)
            pieces = lay_out(self._layout, geometry, index if numbers is None else numbers[index])
            if self._leaves_out:
                pieces, rows = feature("pruning").prune(self, processed, index, geometry, pieces, kwargs)
                indices.append(rows)
            elif not self._layout.is_one_run:
                indices.append(token_indices(pieces))
            texts.append(as_text(pieces, self.image_token))
            if self._layout.slice_positions:
                places.append(slice_positions(geometry))
        for name, values in (("image_token_index", indices), ("view_positions", places)):
            if values:
                processed[name] = token_rows(values, kwargs["return_tensors"], processed["tile_grid"])
        if self.packed_images:
            processed = feature("packed_images")(processed)
        return processed, texts

    def _process_videos(self, videos: VideoInput, **kwargs: Any) -> tuple[Any, list[str]]:
        processed, texts = feature("videos").process(self, videos, **kwargs)
        return processed, texts

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: object) -> str:
        """Return the placeholders of one image and the text between them, for the first image of a prompt."""
        geometry = self._geometry(image_inputs, image_idx)
        pieces = lay_out(self._layout, geometry)
        if self._leaves_out:
            pieces, _ = feature("pruning").prune(self, image_inputs, image_idx, geometry, pieces, kwargs)
        return as_text(pieces, self.image_token)

    def _geometry(self, image_inputs: dict[str, Any], index: int) -> Geometry:
        # Padding views have an all-zero box.
        num_views = int(np.asarray(image_inputs["view_boxes"][index]).any(axis=-1).sum())
        rows, cols = (int(side) for side in image_inputs["tile_grid"][index])
        sizes = image_inputs.get("image_sizes")
        size = None if sizes is None else (int(sizes[index][0]), int(sizes[index][1]))
        height, width = image_inputs["pixel_values"][index].shape[-2:]
        views = [(height, width)] * num_views
        if "patch_grids" in image_inputs:  # then a view's patches lie side by side, and `height` is a patch's
            grids = np.asarray(image_inputs["patch_grids"][index])[:num_views].tolist()
            views = [(patch_rows * height, patch_cols * height) for patch_rows, patch_cols in grids]
        return self._geometry_of((rows, cols), views, size)

    def _geometry_of(
        self, tile_grid: tuple[int, int], view_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int] | None
    ) -> Geometry:
        """Return the geometry of views of these sizes (height, width) in pixels."""
        if self.prune is not None and self.prune["type"] == "visionzip":
            counts = (feature("pruning").tokens_per_view(self.prune),) * len(view_sizes)
            return Geometry(tile_grid, counts, image_size)
        if self.token_size is None:
            return Geometry(tile_grid, (self.tokens_per_tile,) * len(view_sizes), image_size)
        for height, width in view_sizes:
            if height % self.token_size or width % self.token_size:
                raise ValueError(
                    f"A view of {height}x{width} pixels must be whole tokens of {self.token_size} pixels (the "
                    "processor's `token_size`). Set the canvas's `patch_size` or `multiple` accordingly."
                )
        grids = [(height // self.token_size, width // self.token_size) for height, width in view_sizes]
        return Geometry(tile_grid, tuple(rows * cols for rows, cols in grids), image_size, grids[-1], grids[0])

    def _get_num_multimodal_tokens(
        self,
        image_sizes: list[tuple[int, int]] | None = None,
        video_sizes: list[tuple[int, int, int]] | None = None,
        **kwargs: Any,
    ) -> MultiModalData:
        """Count the tokens of images and videos of these sizes, without pixels.

        Args:
            image_sizes: (height, width) of each image; with `max_prompt_image_tokens`, those of one prompt.
            video_sizes: (frames, height, width) of each video; not counted without a video processor.
            kwargs: Processing kwargs as in a call, for instance `images_kwargs={"canvas": ...}`.

        Returns:
            Per image: `num_image_tokens`, the most where pixels decide (`prune`), and `num_image_patches`, the rows
            it has in every image tensor (1). Per video: `num_video_tokens`.
        """
        of_videos: dict[str, Any] = {}
        if video_sizes is not None and self.video_processor is not None:
            of_videos["num_video_tokens"] = feature("videos").count(self, video_sizes)
        if image_sizes is None:
            return MultiModalData(**of_videos)
        images_kwargs = self._merge_kwargs(cast(ProcessingKwargs, self.valid_processor_kwargs), **kwargs)[
            "images_kwargs"
        ]
        if image_sizes and (self.max_image_tokens or self.max_prompt_image_tokens):
            fitted = self._budgeted_sizes(
                [(height, width) for height, width in image_sizes], 0, images_kwargs, may_drop=False
            )
            assert fitted is not None
            image_sizes = fitted
        count = self._counter(self.image_processor.plans(**images_kwargs))
        counts = [count(height, width) for height, width in image_sizes]
        return MultiModalData(num_image_tokens=counts, num_image_patches=[1] * len(image_sizes), **of_videos)

    def _budgeted_sizes(
        self, sizes: list[tuple[int, int]], sample: int, images_kwargs: dict[str, Any], *, may_drop: bool
    ) -> list[tuple[int, int]] | None:
        """Return the sizes (height, width) at which a prompt's images are planned, or None to drop the prompt."""
        if not (self.max_image_tokens or self.max_prompt_image_tokens):
            return sizes
        fitted: list[tuple[int, int]] | None = feature("budget").sizes(
            self, sizes, sample, images_kwargs, may_drop=may_drop
        )
        return fitted

    def _counter(self, canvas: Canvas) -> Callable[[int, int], int]:
        """Return a function that counts the tokens of an image of (height, width); equal views are counted once."""
        layout, views_of = self._layout, canvas.views
        of_view: dict[Any, int] = {}
        of_views: dict[Any, Geometry] = {}

        def tokens(view: tuple[int, int]) -> int:
            if view not in of_view:
                of_view[view] = self._geometry_of((1, 1), [view], None).token_counts[0]
            return of_view[view]

        def count(height: int, width: int) -> int:
            (rows, cols), tile, overview = views = views_of(height, width)
            if not layout.has_learned_vectors:
                tiles = rows * cols * tokens(tile)
                return tiles if overview is None or layout.overview == "none" else tiles + tokens(overview)
            if views not in of_views:
                sizes = [tile] * (rows * cols) if overview is None else [overview, *[tile] * (rows * cols)]
                of_views[views] = self._geometry_of((rows, cols), sizes, None)
            return count_tokens(layout, of_views[views], (height, width))

        return count

    def _count(self, plan: CanvasPlan) -> int:
        """Count the image tokens of an image with this plan."""
        geometry = self._geometry_of(plan.tile_grid, plan.view_sizes, plan.image_size)
        return int(count_tokens(self._layout, geometry))


def _is_none(items: object) -> bool:
    """Return whether there are no items: None, an empty list, or an empty list per sample."""
    return items is None or (
        isinstance(items, list | tuple) and all(item is not None and _is_none(item) for item in items)
    )


def _of_kept(samples: list[Any]) -> list[Any]:
    """Select the entries of conversations that `drop_sample` kept."""
    kept = _KEPT.get()
    return [samples[index] for index in kept] if kept else samples
