# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FilaProcessor: tokenizer and image processor in one call.

Each `<image>` of a prompt becomes one run of `views x tokens_per_tile` placeholders, counted on the same `CanvasPlan`
that the pixels are rendered from.
"""

import inspect
from typing import Any

import numpy as np
from transformers.processing_utils import MultiModalData, ProcessorMixin
from transformers.utils import logging

from .assistant_masks import assistant_masks
from .chat_template import DEFAULT_CHAT_TEMPLATE
from .control_tokens import control_token_pattern, escape_messages
from .image_input import ImageInputError, image_size, resized
from .token_budget import POLICIES, fit_prompt

__all__ = ["DEFAULT_CHAT_TEMPLATE", "FilaProcessor"]

logger = logging.get_logger(__name__)


class FilaProcessor(ProcessorMixin):
    r"""Processor of FILA.

    Args:
        image_processor ([`FilaImageProcessor`]):
            Plans and renders the images.
        tokenizer ([`PreTrainedTokenizerFast`]):
            Its added tokens hold the image token.
        chat_template (`str`, *optional*):
            A Jinja template, for instance `DEFAULT_CHAT_TEMPLATE`.
        tokens_per_tile (`int`, *optional*, defaults to 576):
            Image tokens that the model makes of one view.
        image_token (`str`, *optional*, defaults to `"<image>"`):
            Placeholder of an image; a tokenizer that names an `image_token` of its own decides.
        max_image_tokens (`int`, *optional*):
            Image tokens that one image may have.
        max_prompt_image_tokens (`int`, *optional*):
            Image tokens that all images of a prompt may have. Not for serving engines, which count image by image.
        image_token_policy (`str`, *optional*, defaults to `"error"`):
            What happens to a prompt over a limit: `"error"`; `"drop_sample"` leaves it out of the batch, with a
            warning; `"shrink_images"` shrinks its images, the largest first, see `token_budget.py`.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | dict[str, str] | None = None,
        tokens_per_tile: int = 576,
        image_token: str = "<image>",
        max_image_tokens: int | None = None,
        max_prompt_image_tokens: int | None = None,
        image_token_policy: str = "error",
        **kwargs: Any,
    ) -> None:
        if not isinstance(tokens_per_tile, int) or tokens_per_tile < 1:
            raise ValueError(f"`tokens_per_tile` must be a positive integer; got {tokens_per_tile!r}.")
        for name, limit in (
            ("max_image_tokens", max_image_tokens),
            ("max_prompt_image_tokens", max_prompt_image_tokens),
        ):
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"`{name}` must be a positive integer or None; got {limit!r}.")
        if image_token_policy not in POLICIES:
            raise ValueError(f"`image_token_policy` must be one of {list(POLICIES)}; got {image_token_policy!r}.")
        self.tokens_per_tile = tokens_per_tile
        self.max_image_tokens = max_image_tokens
        self.max_prompt_image_tokens = max_prompt_image_tokens
        self.image_token_policy = image_token_policy
        self.image_token = getattr(tokenizer, "image_token", None) or image_token
        if tokenizer is not None:
            self.image_token_id = tokenizer.get_added_vocab().get(self.image_token)
            if self.image_token_id is None:
                raise ValueError(
                    f"The image token {self.image_token!r} must be an added token of the tokenizer; add it with "
                    f"`tokenizer.add_tokens([{self.image_token!r}], special_tokens=True)`."
                )
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain JSON, with the `auto_map` that is saved: a loaded processor equals the saved one."""
        output: dict[str, Any] = super().to_dict()
        if self._auto_class is not None:
            module = type(self).__module__.rpartition(".")[2]
            output["auto_map"] = {self._auto_class: f"{module}.{type(self).__name__}"}
        return output

    def prepare_inputs_layout(self, images: Any = None, text: Any = None, **kwargs: Any) -> tuple[Any, Any, Any, Any]:
        """Wrap a single prompt in a list and load the images; no image at all is None."""
        if isinstance(text, list | tuple) and not text:
            raise ValueError("`text` must hold at least one prompt; got an empty list.")
        images, text, videos, audio = super().prepare_inputs_layout(images=images, text=text, **kwargs)
        if isinstance(images, list) and not any(not isinstance(item, list) or item for item in images):
            images = None
        if images is not None and (self.max_image_tokens or self.max_prompt_image_tokens):
            self.validate_inputs(images=images, text=text, **kwargs)
            images, text = self._within_budget(images, text, kwargs)
        return images, text, videos, audio

    def _within_budget(self, images: Any, text: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Apply the limits of image tokens, prompt by prompt."""
        images = images if isinstance(images, list) else [images]
        nested = images if isinstance(images[0], list) else [images]
        if nested is not images and text is not None:
            left = iter(images)
            nested = [[next(left) for _ in range(prompt.count(self.image_token))] for prompt in text]
        kept: list[int] = []
        fitted: list[list[Any]] = []
        for sample, own in enumerate(nested):
            given = [image_size(image, sample, number) for number, image in enumerate(own)]
            sizes = self._budgeted_sizes(given, sample, kwargs, may_drop=True)
            if sizes is not None:
                kept.append(sample)
                fitted.append(
                    [
                        image if size == before else resized(image, size)
                        for image, size, before in zip(own, sizes, given, strict=True)
                    ]
                )
        if not kept:
            raise ValueError("No sample keeps the limits of image tokens, so `drop_sample` would leave none.")
        if len(kept) < len(nested):
            dropped = sorted(set(range(len(nested))) - set(kept))
            logger.warning(f"Samples {dropped} are left out: their images have more tokens than allowed.")
            text = None if text is None else [text[sample] for sample in kept]
        return fitted if text is not None or nested is images else fitted[0], text

    def _budgeted_sizes(
        self, sizes: list[tuple[int, int]], sample: int, kwargs: dict[str, Any], *, may_drop: bool
    ) -> list[tuple[int, int]] | None:
        """Sizes (height, width) at which the images of a prompt are planned, or None where it is to be dropped."""
        images_kwargs = self._merge_kwargs(self.valid_processor_kwargs, **kwargs)["images_kwargs"]

        def count(height: int, width: int) -> int:
            views = self.image_processor.get_number_of_image_patches(height, width, images_kwargs)
            return int(views * self.tokens_per_tile)

        tokens = [count(*size) for size in sizes]
        most, in_all = self.max_image_tokens, self.max_prompt_image_tokens
        over = [number for number, own in enumerate(tokens) if most is not None and own > most]
        if not over and (in_all is None or sum(tokens) <= in_all):
            return sizes
        if self.image_token_policy == "drop_sample" and may_drop:
            return None
        shrinks = self.image_token_policy == "shrink_images"
        if shrinks and (fitted := fit_prompt(sizes, count, per_image=most, per_prompt=in_all)) is not None:
            return fitted
        fix = "Raise the limit" + (
            ", or send fewer images." if shrinks else ', or set `image_token_policy="shrink_images"`.'
        )
        even = ", even at the least" if shrinks else ""
        if over:
            reason = f"has {tokens[over[0]]} image tokens, and `max_image_tokens` is {most}{even}"
            raise ImageInputError(sample, over[0], reason, fix)
        raise ValueError(
            f"The {len(sizes)} images of sample {sample} have {tokens} image tokens, in all {sum(tokens)}, and "
            f"`max_prompt_image_tokens` is {in_all}{even}. {fix}"
        )

    def validate_inputs(self, images: Any = None, text: Any = None, **kwargs: Any) -> None:
        """Check that every prompt holds as many image tokens as it has images.

        Raises:
            ValueError: Naming the sample and both counts.
        """
        if images is None and text is None:
            raise ValueError(f"{type(self).__name__} needs text, images or both.")
        if text is None:
            return
        prompts = [text] if isinstance(text, str) else text
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError("`text` must be a string or a list of strings.")
        token = self.image_token
        rule = f"The number of {token} tokens in the prompts should be the same as the number of images passed"
        in_text = [prompt.count(token) for prompt in prompts]
        if images is None:
            images = [[] for _ in prompts]
        if not isinstance(images, list) or not isinstance(images[0], list):
            num_images = len(images) if isinstance(images, list) else 1
            if num_images != sum(in_text):
                raise ValueError(
                    f"{rule}: the prompts hold {in_text} (in all {sum(in_text)}), and a flat list of {num_images} was "
                    "passed. Pass one list of images per prompt to see which one is wrong."
                )
            return
        if len(images) != len(prompts):
            raise ValueError(f"{rule}: there are {len(images)} lists of images for {len(prompts)} prompts.")
        for sample, (num_tokens, own) in enumerate(zip(in_text, images, strict=True)):
            if num_tokens != len(own):
                raise ValueError(f"{rule}: sample {sample} has {num_tokens} {token} tokens and {len(own)} images.")

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        tools: Any = None,
        documents: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Render messages, and tokenize them on request; see `ProcessorMixin.apply_chat_template`.

        Control tokens in the text of messages, tools and documents stay text, see `control_tokens.py`: images come out
        of image parts alone.
        """
        pattern = control_token_pattern(self.tokenizer, self._template(chat_template), self.image_token)
        if hasattr(conversation, "messages"):
            conversation = conversation.messages
        conversation = escape_messages([getattr(item, "messages", item) for item in conversation], pattern)
        kwargs |= {"tools": escape_messages(tools, pattern), "documents": escape_messages(documents, pattern)}
        wants_mask = (
            kwargs.get("tokenize") and kwargs.get("return_dict") and kwargs.get("return_assistant_tokens_mask")
        )
        if kwargs.get("continue_final_message"):
            wants_mask = False  # the base refuses the combination
        if wants_mask and self.image_token_policy == "drop_sample":
            raise ValueError(
                'Assistant masks are made for every conversation, and `image_token_policy="drop_sample"` would leave '
                'some out. Leave them out before, or set "error" or "shrink_images".'
            )
        if wants_mask and not hasattr(ProcessorMixin, "_adjust_assistant_masks_indices"):
            return self._with_assistant_masks(conversation, chat_template, **kwargs)
        return super().apply_chat_template(conversation, chat_template, **kwargs)

    def _template(self, name_or_template: str | None) -> str:
        templates = self.chat_template
        if isinstance(templates, dict):
            return templates.get(name_or_template or "default") or name_or_template or ""
        return name_or_template or templates or ""

    def _with_assistant_masks(self, conversation: Any, chat_template: str | None, **kwargs: Any) -> Any:
        from transformers.utils.chat_template_utils import _get_template_variables, render_jinja_template

        template = self._template(chat_template)
        of_base = inspect.signature(ProcessorMixin.apply_chat_template).parameters
        of_template = _get_template_variables(template)
        processor_kwargs = dict(kwargs.pop("processor_kwargs", None) or {})
        processor_kwargs |= {
            name: kwargs.pop(name) for name in [*kwargs] if name not in of_base and name not in of_template
        }
        processor_kwargs |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        kwargs["return_assistant_tokens_mask"] = False
        outputs = super().apply_chat_template(conversation, chat_template, processor_kwargs=processor_kwargs, **kwargs)

        variables = {name: value for name, value in kwargs.items() if name not in of_base}
        _, spans = render_jinja_template(
            conversations=conversation if isinstance(conversation[0], list) else [conversation],
            chat_template=template,
            tools=kwargs["tools"],
            documents=kwargs["documents"],
            return_assistant_tokens_mask=True,
            add_generation_prompt=kwargs.get("add_generation_prompt", False),
            **{**self.tokenizer.special_tokens_map, **variables},
        )
        offsets = np.asarray(outputs.pop("offset_mapping"), dtype=object).tolist()
        outputs["assistant_masks"] = assistant_masks(offsets, outputs.pop("text_replacement_offsets"), spans)
        return outputs.convert_to_tensors(kwargs.get("return_tensors") or processor_kwargs.get("return_tensors"))

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """The run of placeholders of one image."""
        # Padding views have an all-zero box.
        num_views = int(np.asarray(image_inputs["view_boxes"][image_idx]).any(axis=-1).sum())
        return self.image_token * (num_views * self.tokens_per_tile)

    def _get_num_multimodal_tokens(
        self, image_sizes: list[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Count the image tokens of images of these sizes, without pixels.

        Args:
            image_sizes: (height, width) of each image; with `max_prompt_image_tokens`, those of one prompt.
            kwargs: Processing kwargs as in a call, for instance `images_kwargs={"canvas": ...}`.

        Returns:
            Per image: `num_image_tokens`, and `num_image_patches`, the rows it has in every image tensor (1).
        """
        if image_sizes is None:
            return MultiModalData()
        if image_sizes and (self.max_image_tokens or self.max_prompt_image_tokens):
            fitted = self._budgeted_sizes(
                [(height, width) for height, width in image_sizes], 0, kwargs, may_drop=False
            )
            assert fitted is not None
            image_sizes = fitted
        images_kwargs = self._merge_kwargs(self.valid_processor_kwargs, **kwargs)["images_kwargs"]
        count = self.image_processor.get_number_of_image_patches
        return MultiModalData(
            num_image_tokens=[
                count(height, width, images_kwargs) * self.tokens_per_tile for height, width in image_sizes
            ],
            num_image_patches=[1] * len(image_sizes),
        )
