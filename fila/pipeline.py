# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""`pipeline("image-text-to-text", batch_size=...)` for rows that differ in canvas or in their number of images.

transformers collates rows by padding every tensor along its second axis, which is wrong for images, and keeps only
the first image of a row. It does not change lists, so this pipeline passes images as lists.
"""

from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.image_text_to_text import ImageTextToTextPipeline
from transformers.utils import ModelOutput

from fila.modeling.modeling_fila import IMAGE_INPUTS, FilaForConditionalGeneration
from fila.modeling.view_layout import VIDEO_INPUTS

_ROWS = (*IMAGE_INPUTS, *VIDEO_INPUTS.values(), "video_token_index")


class FilaImageTextToTextPipeline(ImageTextToTextPipeline):
    """transformers' pipeline with support for batches of images; unchanged for other models."""

    def preprocess(self, *args: object, **kwargs: object) -> Any:
        """Make the model's inputs of one row, with images and videos as lists, empty if it has none."""
        inputs = super().preprocess(*args, **kwargs)
        if isinstance(self.model, FilaForConditionalGeneration):
            for name in _ROWS:
                inputs[name] = [*inputs.pop(name, ())]
        return inputs

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], generate_kwargs: dict[str, Any] | None = None
    ) -> ModelOutput:
        if isinstance(self.model, FilaForConditionalGeneration):
            for name in _ROWS:
                rows = model_inputs.pop(name)
                if rows and isinstance(rows[0], list):  # one list per row of the batch
                    rows = [image for row in rows for image in row]
                if rows:
                    model_inputs[name] = rows
        return super()._forward(model_inputs, generate_kwargs)


def register() -> None:
    """Register the class with `pipeline`; a second call changes nothing."""
    _, task, _ = PIPELINE_REGISTRY.check_task("image-text-to-text")
    task["impl"] = FilaImageTextToTextPipeline
