# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The settings of lmms-eval's tasks; `make eval-check` runs the tasks themselves."""

from importlib.metadata import entry_points

from fila import lmms_plugin


def test_settings_of_tasks_become_those_of_generate() -> None:
    docvqa = {"max_new_tokens": 32, "temperature": 0, "do_sample": False, "until": ["\n\n"]}
    assert lmms_plugin._generation(docvqa) == {"max_new_tokens": 32}
    ocrbench = {"max_new_tokens": 128, "temperature": 0, "top_p": 1.0, "num_beams": 1}
    assert lmms_plugin._generation(ocrbench) == {"max_new_tokens": 128, "num_beams": 1}
    sampled = {"temperature": 0.5, "top_p": 0.9, "num_beams": None}
    expected = {"max_new_tokens": 256, "top_p": 0.9, "do_sample": True, "temperature": 0.5}
    assert lmms_plugin._generation(sampled) == expected


def test_lmms_eval_finds_the_model() -> None:
    (found,) = entry_points(group="lmms_eval.models", name="fila")
    assert found.load() is lmms_plugin.manifest
