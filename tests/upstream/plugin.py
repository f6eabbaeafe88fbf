# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Pytest plugin of the upstream run: makes transformers' common tests see classes that live outside transformers.

The mixins look class *names* up in transformers' static tables and in the module `transformers`; without `install`
some of them raise (`test_training`) and some silently check nothing (`test_get_image_features_pooler_output`).
"""

import importlib.util
import os
import sys
import unittest

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# Upstream's helpers import httpx; newer huggingface_hub releases depend on it under another name.
try:
    import httpx  # noqa: F401
except ImportError:
    import httpx2

    sys.modules["httpx"] = httpx2

import torch
import transformers
from transformers.models.auto import (
    configuration_auto,
    image_processing_auto,
    modeling_auto,
    processing_auto,
    video_processing_auto,
)

torch.set_num_threads(1)

MARKERS = """
slow is_pipeline_test is_staging_test accelerate_tests not_device_test torch_compile_test torch_export_test
flash_attn_test flash_attn_3_test flash_attn_4_test all_flash_attn_test training_ci tensor_parallel_ci fsdp_ci generate
bitsandbytes is_training_test is_tensor_parallel_test is_expert_parallel_test is_fsdp_test run_first order flaky
is_pt_tf_cross_test
"""


def load_spec():
    """Load the file that says what is tested, once per process."""
    if "fila_spec" not in sys.modules:
        module_spec = importlib.util.spec_from_file_location("fila_spec", os.environ["FILA_SPEC"])
        module = importlib.util.module_from_spec(module_spec)
        sys.modules["fila_spec"] = module
        module_spec.loader.exec_module(module)
    return sys.modules["fila_spec"]


def install():
    """Write our names into the tables that the mixins read."""
    spec = load_spec()
    model_type = spec.CONFIG_CLASS.model_type
    # the tables' lazy mappings import `transformers.models.<model type>`
    sys.modules[f"transformers.models.{model_type}"] = spec.PACKAGE
    configuration_auto.CONFIG_MAPPING_NAMES[model_type] = spec.CONFIG_CLASS.__name__
    for table, cls in spec.MODEL_TABLES.items():
        getattr(modeling_auto, table)[model_type] = cls.__name__
    image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES[model_type] = {
        backend: cls.__name__ for backend, cls in spec.IMAGE_PROCESSOR_CLASSES.items()
    }
    processing_auto.PROCESSOR_MAPPING_NAMES[model_type] = spec.PROCESSOR_CLASS.__name__
    video_processing_auto.VIDEO_PROCESSOR_MAPPING_NAMES[model_type] = {
        "torchvision": spec.VIDEO_PROCESSOR_CLASS.__name__
    }
    classes = (spec.VIDEO_PROCESSOR_CLASS, *spec.MODEL_TABLES.values(), *spec.IMAGE_PROCESSOR_CLASSES.values())
    for cls in (spec.CONFIG_CLASS, spec.PROCESSOR_CLASS, *classes):
        setattr(transformers, cls.__name__, cls)


def build(module, name, mixins, namespace, overrides):
    """Make the test class `name` from upstream's mixins, with the overrides in front.

    An override of a test that this version of transformers does not have is no test of its own.
    """
    if overrides is not None:
        tests = [key for key in vars(overrides) if key.startswith("test_") and callable(getattr(overrides, key))]
        absent = [key for key in tests if not any(hasattr(mixin, key) for mixin in mixins)]
        namespace |= dict.fromkeys(absent)
        mixins = (overrides, *mixins)
    return type(name, (*mixins, unittest.TestCase), {"__module__": module, **namespace})


def pytest_configure(config):
    for name in MARKERS.split():
        config.addinivalue_line("markers", name)


def pytest_collection_modifyitems(items):
    skips = load_spec().SKIPS
    for item in items:
        reason = skips.get((item.cls.__name__, item.name)) or skips.get(("*", item.name))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"[ours] {reason}"))


install()
