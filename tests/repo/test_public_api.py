# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What other software and other people's code calls; a change here is a change for them."""

import importlib
import json
import subprocess
import sys
import types
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    pipelines,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from typer.main import get_command

import fila
import fila_cli
from fila import vllm_plugin
from fila.pipeline import FilaImageTextToTextPipeline
from tests.helpers import tiny_config, tiny_model, tiny_processor

NAMES = {
    "FilaConfig",
    "FilaForConditionalGeneration",
    "FilaImageProcessor",
    "FilaImageProcessorPil",
    "FilaModel",
    "FilaMultiScaleQuantizer",
    "FilaProcessor",
    "FilaVideoProcessor",
    "FilaVisionModel",
    "VarConfig",
    "VarForImageGeneration",
    "VarImageProcessor",
    "VarImageProcessorPil",
    "VarVQConfig",
    "VarVQModel",
    "load_parts",
    "open_page",
    "read_pages",
    "register_part",
}
COMMANDS = {
    "app",
    "ask",
    "assemble",
    "demo",
    "estimate",
    "evaluate",
    "explain",
    "export",
    "import",
    "pages",
    "plan",
    "read",
    "recipes",
    "run",
    "train",
    "verify",
    "view",
}


def test_exported_names() -> None:
    assert set(fila.__all__) == NAMES
    assert all(hasattr(fila, name) for name in NAMES)


def test_command_names() -> None:
    from fila.cli import app

    assert set(get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]


def test_import_registers_the_auto_classes() -> None:
    config = tiny_config()
    assert isinstance(AutoConfig.for_model("fila"), fila.FilaConfig)
    assert isinstance(AutoModel.from_config(config), fila.FilaModel)
    for auto in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        assert isinstance(auto.from_config(config), fila.FilaForConditionalGeneration)


def test_processors_are_found_by_the_model_type(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), fila.FilaProcessor)
    found = type(AutoImageProcessor.from_pretrained(tmp_path))
    assert found in (fila.FilaImageProcessor, fila.FilaImageProcessorPil)


def test_importing_twice_changes_nothing() -> None:
    importlib.reload(fila)
    assert isinstance(AutoConfig.for_model("fila"), fila.FilaConfig)


def test_sub_modules_have_the_names_that_other_software_looks_for() -> None:
    model = AutoModelForImageTextToText.from_config(tiny_config())
    assert {name for name, _ in model.named_children()} == {"model", "lm_head"}
    assert {name for name, _ in model.model.named_children()} == {
        "vision_tower",
        "multi_modal_projector",
        "language_model",
    }
    assert model.get_encoder("image") is model.model.vision_tower
    assert model.get_decoder() is model.model.language_model


def test_import_is_light() -> None:
    heavy = ["fila.cli", "fila.conversion", "fila.training", "typer", "gguf", "vllm"]
    code = f"import sys, fila; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_entry_points_name_what_exists() -> None:
    (plugin,) = [entry for entry in entry_points(group="vllm.general_plugins") if entry.name == "fila"]
    assert plugin.load() is vllm_plugin.register
    (script,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "fila"]
    assert script.load() is fila_cli.main


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the plugin enters in vLLM, of which only the modules that it imports are stood in for."""
    entered: dict[str, Any] = {"models": {}, "configs": {}}
    registry = types.SimpleNamespace(register_model=entered["models"].__setitem__)
    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.models"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(ModelRegistry=registry, __path__=[]))
    configs = types.SimpleNamespace(MODELS_CONFIG_MAP=entered["configs"])
    monkeypatch.setitem(sys.modules, "vllm.model_executor.models.config", configs)
    return entered


def test_vllm_plugin_registers_in_both_places(vllm: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = sys.modules["transformers"]
    for name in NAMES:
        monkeypatch.setattr(transformers, name, None, raising=False)
    vllm_plugin.register()
    vllm_plugin.register()
    assert vllm["models"] == {"FilaForConditionalGeneration": vllm_plugin.BACKEND}
    assert all(getattr(transformers, name) is getattr(fila, name) for name in NAMES)


@pytest.mark.parametrize("hook", ["verify_and_update_model_config", "verify_and_update_config"])
def test_vllm_asks_a_model_with_shared_positions_for_them(vllm: dict[str, Any], hook: str) -> None:
    vllm_plugin.register()
    for shared in (True, False):
        asked = types.SimpleNamespace(hf_config=tiny_config(shared_positions=shared), multimodal_config=None)
        asked.model_config = asked
        getattr(vllm["configs"]["FilaForConditionalGeneration"], hook)(asked)
        assert ("mrope_section" in asked.hf_config.text_config.rope_parameters) is shared


def test_vllm_does_not_serve_linear_attention(vllm: dict[str, Any]) -> None:
    vllm_plugin.register()
    hook = vllm["configs"]["FilaForConditionalGeneration"].verify_and_update_model_config
    text = {"model_type": "qwen3_5_text", "hidden_size": 24, "num_hidden_layers": 4, "vocab_size": 300}
    asked = types.SimpleNamespace(hf_config=tiny_config(text_config=text), multimodal_config=None)
    with pytest.raises(ValueError, match=r"'qwen3_5_text' has layers of the kind \['linear_attention'\]; vLLM's"):
        hook(asked)


def test_vllm_refuses_a_model_whose_streams_it_would_lose(vllm: dict[str, Any]) -> None:
    vllm_plugin.register()
    config = tiny_config(injection={"type": "streams", "streams": [{"tap": 1, "before": 0}]})
    asked = types.SimpleNamespace(hf_config=config, multimodal_config=None)
    with pytest.raises(ValueError, match="the streams of `injection` would be lost without a word"):
        vllm["configs"]["FilaForConditionalGeneration"].verify_and_update_model_config(asked)


def test_vllm_does_not_number_several_images(vllm: dict[str, Any], tmp_path: Path) -> None:
    vllm_plugin.register()
    hook = vllm["configs"]["FilaForConditionalGeneration"].verify_and_update_model_config
    for layout, limit in (("minicpm_v_2_6", 1), ("fila", 999), ("minicpm_v_2_6", 2)):
        (tmp_path / "processor_config.json").write_text(json.dumps({"layout": {"type": layout}}), encoding="utf-8")
        images = types.SimpleNamespace(get_limit_per_prompt=lambda modality, limit=limit: limit)
        asked = types.SimpleNamespace(hf_config=tiny_config(), multimodal_config=images, model=str(tmp_path))
        if limit == 2:
            with pytest.raises(ValueError, match=r"cannot serve several images per prompt .* such as MiniCPM-V 2\.6"):
                hook(asked)
        else:
            hook(asked)


def test_vllm_refuses_pruning_by_pixels(vllm: dict[str, Any], tmp_path: Path) -> None:
    vllm_plugin.register()
    hook = vllm["configs"]["FilaForConditionalGeneration"].verify_and_update_model_config
    zipped = {"type": "visionzip", "dominant": 3, "contextual": 2, "cls": False}
    for saved, sent in ((None, None), (zipped, None), ({"type": "pixelprune"}, None), (None, "pixelprune")):
        (tmp_path / "processor_config.json").write_text(json.dumps({"prune": saved}), encoding="utf-8")
        images = types.SimpleNamespace(
            get_limit_per_prompt=lambda modality: 1, mm_processor_kwargs=sent and {"prune": sent}
        )
        asked = types.SimpleNamespace(hf_config=tiny_config(), multimodal_config=images, model=str(tmp_path))
        if "pixelprune" in (sent, (saved or {}).get("type")):
            with pytest.raises(ValueError, match=r"cannot serve `prune` 'pixelprune', where pixels decide"):
                hook(asked)
        else:
            hook(asked)


def test_positions_as_vllm_asks_for_them() -> None:
    model = tiny_model(shared_positions=True).model
    ids = torch.full((1, 7), 9)
    ids[0, 1:5] = model.config.image_token_id
    positions, further = vllm_plugin.rope_index(model, ids)
    assert positions.tolist() == [[[0, 1, 2, 2, 3, 4, 5]]] * 3
    assert further.tolist() == [[-1]]
    types_of = (ids == model.config.image_token_id).int()
    assert torch.equal(vllm_plugin.rope_index(model, torch.zeros_like(ids), mm_token_type_ids=types_of)[0], positions)
    embeds = model.get_input_embeddings()(ids.clamp(max=8))
    one_row, three_rows = (model(inputs_embeds=embeds, position_ids=given)[0] for given in (positions[0], positions))
    assert torch.equal(one_row, three_rows)


def test_import_gives_pipelines_of_mixed_rows() -> None:
    assert pipelines.PIPELINE_REGISTRY.check_task("image-text-to-text")[1]["impl"] is FilaImageTextToTextPipeline
