# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What `make upstream` tests: our classes, tiny inputs for them, every override of upstream's tests with its reason.

Each sample of the model's inputs has two images with different canvases and different numbers of views, in one order
in sample 0 and in the other in sample 1, so rows of padding are in every tensor.
"""

import contextlib
import copy
import importlib.util
import unittest.mock
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from jinja2 import TemplateError
from transformers.utils import is_torchvision_available

import fila
from fila import (
    FilaConfig,
    FilaForConditionalGeneration,
    FilaImageProcessor,
    FilaImageProcessorPil,
    FilaModel,
    FilaProcessor,
    FilaVideoProcessor,
)
from fila.processing import image_processing_fila
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.processing.video_processing_fila import name_of

PACKAGE = fila
CONFIG_CLASS = FilaConfig
CONFIG_PROPERTIES = ["image_token_id"]
ALL_MODEL_CLASSES = (FilaModel, FilaForConditionalGeneration)
MODEL_TABLES = {
    "MODEL_MAPPING_NAMES": FilaModel,
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": FilaForConditionalGeneration,
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": FilaForConditionalGeneration,
}
IMAGE_PROCESSOR_CLASSES = {"pil": FilaImageProcessorPil}
if is_torchvision_available():
    IMAGE_PROCESSOR_CLASSES = {"torchvision": FilaImageProcessor, **IMAGE_PROCESSOR_CLASSES}
PROCESSOR_CLASS = FilaProcessor
VIDEO_PROCESSOR_CLASS = FilaVideoProcessor

# {(test class or "*", test): why it cannot apply to us}
SKIPS = {
    ("*", "test_generation_tester_mixin_inheritance"): (
        "the generation mixin is not part of the source distribution; tests/modeling tests `generate`"
    ),
}

TILE, PATCH, HIGH_RES_TILE = 16, 8, 64
TOKENS_PER_VIEW = (TILE // PATCH) ** 2
# Images of a sample, (tile grid, views): two tiles with an overview, and one tile that is the whole image.
IMAGES = [((1, 2), 3), ((1, 1), 1)]


# The common tests run models on ids alone, drawn at random or with the images left out, and compare what they give.
# Ours refuses placeholders without images; tests/modeling/test_generation.py holds that.
FilaModel._refuse_bare_placeholders = lambda *args, **kwargs: None


def adapt(mixins):
    """Adapt the module tests.test_modeling_common to a configuration that refuses unknown settings.

    Its helper gives the configuration and its parts every name that some model has for a norm's epsilon. Ours would
    refuse to load a file with those names, and has no norm outside its parts.
    """
    set_on_all = mixins.set_config_for_less_flaky_test

    def set_on_parts(config):
        known = set(vars(config))
        set_on_all(config)
        for name in set(vars(config)) - known:
            delattr(config, name)

    mixins.set_config_for_less_flaky_test = set_on_parts


def _helpers():
    """The project's own tests/helpers.py; the package called `tests` is upstream's here."""
    path = Path(__file__).resolve().parents[1] / "helpers.py"
    module_spec = importlib.util.spec_from_file_location("fila_test_helpers", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


class ModelTester:
    """Configuration and inputs, under the attribute names that the mixins read."""

    causal_lm_class = None
    conditional_generation_class = FilaForConditionalGeneration  # what the tensor-parallel mixin runs
    fusion: ClassVar = {"type": "cvfm", "taps": [1, 2], "stages": [2, 4]}

    def __init__(self, parent):
        self.parent = parent
        self.batch_size = 2
        self.is_training = True
        self.num_hidden_layers = 2
        self.num_attention_heads = 4
        self.hidden_size = 32
        self.vocab_size = 99
        self.image_size, self.patch_size = TILE, PATCH
        self.image_token_id = 4  # small: the resize tests clamp ids to a shrunk vocabulary
        self.vision_config = {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": TILE,
            "patch_size": PATCH,
        }
        self.high_res_vision_config = {
            "model_type": "convnext",
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "layer_scale_init_value": 1.0,
        }
        self.text_config = {
            "model_type": "llama",
            "hidden_size": self.hidden_size,
            "intermediate_size": 37,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": 2,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": 580,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        }
        self.images = IMAGES
        self.num_image_tokens = TOKENS_PER_VIEW * sum(views for _, views in self.images)
        self.seq_length = self.num_image_tokens + 7
        self.encoder_seq_length = self.seq_length

    def get_config(self):
        return FilaConfig(
            vision_config=dict(self.vision_config),
            high_res_vision_config=self.high_res_vision_config and dict(self.high_res_vision_config),
            text_config=dict(self.text_config),
            fusion=dict(self.fusion),
            vision_feature_layer=-1,
            image_token_id=self.image_token_id,
        )

    def prepare_config_and_inputs_for_common(self):
        from tests.test_modeling_common import floats_tensor, ids_tensor

        input_ids = ids_tensor([self.batch_size, self.seq_length], self.vocab_size - 5) + 5
        input_ids[:, : self.num_image_tokens] = self.image_token_id
        images = self.images + self.images[::-1]
        max_views = max(views for _, views in images)
        pixel_values = floats_tensor([len(images), max_views, 3, TILE, TILE])
        high_res_pixel_values = floats_tensor([len(images), 3, HIGH_RES_TILE, 2 * HIGH_RES_TILE])
        view_boxes = torch.zeros(len(images), max_views, 4, dtype=torch.long)
        for index, ((rows, cols), views) in enumerate(images):
            tiles = [(TILE * r, TILE * c, TILE * r + TILE, TILE * c + TILE) for r in range(rows) for c in range(cols)]
            overview = [(2, 0, TILE * rows - 2, TILE * cols)]
            view_boxes[index, :views] = torch.tensor(tiles if views == len(tiles) else overview + tiles)
            pixel_values[index, views:] = 0
            high_res_pixel_values[index, :, HIGH_RES_TILE * rows :] = 0
            high_res_pixel_values[index, :, :, HIGH_RES_TILE * cols :] = 0
        grids = torch.tensor([grid for grid, _ in images])
        inputs = {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "pixel_values": pixel_values,
            "view_boxes": view_boxes,
            "tile_grid": grids,
        }
        if self.high_res_vision_config is not None:
            inputs |= {"high_res_pixel_values": high_res_pixel_values, "high_res_sizes": grids * HIGH_RES_TILE}
        return self.get_config(), inputs


class TensorParallelTester(ModelTester):
    """The same with an image token that the mixin's seed does not draw: it runs models on drawn ids alone."""

    def __init__(self, parent):
        super().__init__(parent)
        self.image_token_id = 6


class ChannelConcatTester(ModelTester):
    """Fusion after the last layer, and a ConvNeXt V2."""

    fusion: ClassVar = {"type": "channel_concat"}

    def __init__(self, parent):
        super().__init__(parent)
        self.high_res_vision_config |= {"model_type": "convnextv2"}
        del self.high_res_vision_config["layer_scale_init_value"]


class SingleTowerTester(ModelTester):
    """No high-res tower, and a head that shares the embedding's weight."""

    fusion: ClassVar = {"type": "none"}

    def __init__(self, parent):
        super().__init__(parent)
        self.high_res_vision_config = None
        self.text_config |= {"tie_word_embeddings": True}


MODEL_TESTERS = {
    "ModelTest": ModelTester,
    "ChannelConcatModelTest": ChannelConcatTester,
    "SingleTowerModelTest": SingleTowerTester,
}


class ModelTestOverrides:
    # `last_hidden_state` has one row per view, as in every tiling model of transformers; the rest of the test runs.
    skip_test_image_features_output_shape = True
    skip_test_video_features_output_shape = True
    # Upstream skips its test of missing weights for models older than 2023, by the year in the config's file header.
    test_can_init_all_missing_weights_before_2023 = True

    def _image_features_prepare_config_and_inputs(self):
        # upstream picks the inputs of `get_image_features` by words in their names, which misses ours
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        return config, {name: inputs[name] for name in inputs if name not in ("input_ids", "attention_mask")}

    def _video_features_prepare_config_and_inputs(self):
        # the images, each as a video of one frame
        config, inputs = self._image_features_prepare_config_and_inputs()
        videos = {name_of(name): value[:, None] for name, value in inputs.items()}
        return config, videos

    def test_get_video_features_pooler_output(self):
        # one entry per video, as for images
        samples, self.model_tester.batch_size = self.model_tester.batch_size, 2 * len(self.model_tester.images)
        super().test_get_video_features_pooler_output()
        self.model_tester.batch_size = samples

    def test_multimodal_outputs_are_returned(self):
        # one entry per image; upstream's test takes images and samples for the same number
        tester = self.model_tester
        prepared = tester.prepare_config_and_inputs_for_common()
        with (
            unittest.mock.patch.object(tester, "prepare_config_and_inputs_for_common", return_value=prepared),
            unittest.mock.patch.object(tester, "batch_size", 2 * len(tester.images)),
        ):
            super().test_multimodal_outputs_are_returned()

    def test_get_image_features_pooler_output(self):
        # one entry per image; upstream's test takes images and samples for the same number
        samples, self.model_tester.batch_size = self.model_tester.batch_size, 2 * len(self.model_tester.images)
        super().test_get_image_features_pooler_output()
        self.model_tester.batch_size = samples


class ImageProcessingTesterMixin:
    settings: ClassVar = {
        "size": {"height": 20, "width": 20},
        "canvas": {"type": "single"},
        "high_res_size": {"height": 64, "width": 64},
    }

    def __init__(self, parent):
        # not the base's, whose arguments differ between the supported versions
        self.parent = parent
        self.settings = dict(self.settings)
        self.batch_size, self.num_channels = 7, 3
        self.min_resolution, self.max_resolution = 30, 400
        if hasattr(self, "_get_image_processing_classes"):
            self.image_processing_classes = self._get_image_processing_classes()

    def prepare_image_processor_dict(self):
        return copy.deepcopy(self.settings)

    def expected_output_image_shape(self, images):
        return (1, self.num_channels, 20, 20)


class ImageProcessingTestOverrides:
    @property
    def image_processor_dict(self):
        return self.image_processor_tester.prepare_image_processor_dict()

    def test_call_numpy_4_channels(self):
        # the test passes a mean and a deviation of four channels for the views, none for the high-res canvas; older
        # versions of it leave out what keeps ours from making three channels of the four
        self.image_processor_tester.settings |= {"high_res_size": None, "do_convert_rgb": False}
        super().test_call_numpy_4_channels()


class VideoProcessingTester:
    """Under the attribute names that the mixin reads."""

    def __init__(self, parent):
        self.parent = parent
        self.batch_size, self.num_frames, self.num_channels = 5, 8, 3

    def prepare_video_inputs(self, equal_resolution=False, return_tensors="pil"):
        from tests.test_video_processing_common import prepare_video_inputs

        return prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=30,
            max_resolution=80,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )

    def expected_output_video_shape(self, videos):
        return (self.num_frames, 1, self.num_channels, 20, 20)


class VideoProcessingTestOverrides:
    @property
    def video_processor_dict(self):
        return {"size": {"height": 20, "width": 20}, "max_frames": 99}

    def test_video_processor_from_dict_with_kwargs(self):
        # upstream's expects the sizes of its own models
        made = VIDEO_PROCESSOR_CLASS.from_dict(self.video_processor_dict)
        assert made.size == {"height": 20, "width": 20}
        made = VIDEO_PROCESSOR_CLASS.from_dict(self.video_processor_dict, size=42, max_frames=84)
        assert dict(made.size) == {"height": 42, "width": 42}
        assert made.max_frames == 84

    def test_call_numpy_4_channels(self):
        # upstream's takes the second axis for the channels; here it is the frame's views
        self.video_processor_tester.num_channels = 4
        videos = self.video_processor_tester.prepare_video_inputs(return_tensors="pil")
        encoded = VIDEO_PROCESSOR_CLASS(**self.video_processor_dict)(videos, return_tensors="pt")
        assert tuple(encoded[self.input_name].shape) == (5, 8, 1, 3, 20, 20)


class ProcessorTestOverrides:
    @classmethod
    def _setup_tokenizer(cls):
        return _helpers().tiny_tokenizer()

    @classmethod
    def _setup_image_processor(cls):
        settings = {"size": {"height": 28, "width": 28}, "high_res_size": {"height": 128, "width": 128}}
        return next(iter(IMAGE_PROCESSOR_CLASSES.values()))(**settings)

    @staticmethod
    def prepare_processor_dict():
        # few enough that the texts of the tests stay below the lengths that they cut to
        return {"tokens_per_tile": 2, "chat_template": DEFAULT_CHAT_TEMPLATE}

    def test_apply_chat_template_tool_calls_no_content(self):
        # upstream's takes a template that names tools for one that writes them; ours names them to refuse them
        calls = [{"type": "function", "function": {"name": "get_weather", "arguments": {}}}]
        with pytest.raises(TemplateError, match="has no place for a message's `tool_calls`"):
            self.get_processor().apply_chat_template([{"role": "assistant", "tool_calls": calls}])

    # Upstream's tests hand videos to every processor whose call names them; ours needs a video processor for them.

    @contextlib.contextmanager
    def _with_videos(self):
        whole, made = self.get_processor, self.prepare_text_inputs

        def processor():
            found = whole()
            found.tokenizer.add_tokens(["<video>"], special_tokens=True)
            found._set_video_processor({"size": {"height": 28, "width": 28}}, "<video>", found.tokenizer)
            return found

        def texts(batch_size=None, modalities=None):
            mark = "<video>" if "video" in (modalities or ()) else ""
            text = made(batch_size=batch_size, modalities=modalities)
            return [one + mark for one in text] if isinstance(text, list) else text + mark

        with (
            unittest.mock.patch.object(self, "get_processor", processor),
            unittest.mock.patch.object(self, "prepare_text_inputs", texts),
        ):
            yield

    def test_model_input_names(self):
        with self._with_videos():
            super().test_model_input_names()

    def test_flat_kwarg_applied_when_modality_dict_lacks_it(self):
        with self._with_videos():
            super().test_flat_kwarg_applied_when_modality_dict_lacks_it()

    def test_processor_text_has_no_visual(self):
        with self._with_videos():
            super().test_processor_text_has_no_visual()

    def test_args_overlap_kwargs(self):
        # the test saves a made-up setting `is_override`; our image processors refuse unknown settings
        accepted = image_processing_fila.PASSED_BY_TRANSFORMERS | {"is_override"}
        with unittest.mock.patch.object(image_processing_fila, "PASSED_BY_TRANSFORMERS", accepted):
            super().test_args_overlap_kwargs()
