# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from fila import FilaForConditionalGeneration
from fila.conversion.adapter import check_text_adapter, merge_adapter
from fila.conversion.verify import verify
from fila.training.scopes import lora_config
from tests.cases import each
from tests.helpers import tiny_model, tiny_processor

# PEFT asks the model by its older name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
PARTS = {"text": None, "connector": "the connector", "low_res": "the vision towers or their fusion"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "base"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, *scope: str, **settings: Any) -> torch.nn.Module:
    """Save an adapter that changes answers, and return the adapted model."""
    model = tiny_model()
    adapted = get_peft_model(model, lora_config(model, scope, r=2, **settings))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    adapted.save_pretrained(folder)
    return adapted


@each("scope", PARTS)
def test_an_adapter_is_served_if_it_is_of_the_language_model_alone(scope: str, tmp_path: Path) -> None:
    save_adapter(tmp_path, "text", *({scope} - {"text"}))
    if scope == "text":
        assert check_text_adapter(tmp_path) > 0
        return
    with pytest.raises(ValueError, match=f"changes {PARTS[scope]} .base_model.*fila export CHECKPOINT --merge"):
        check_text_adapter(tmp_path)


def test_what_was_trained_whole_is_not_served(tmp_path: Path) -> None:
    save_adapter(tmp_path, "text", modules_to_save=["multi_modal_projector"])
    with pytest.raises(ValueError, match=r"the connector .*`modules_to_save` has 'multi_modal_projector'"):
        check_text_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no adapter_model\.safetensors"):
        check_text_adapter(tmp_path)


def test_verify_checks_adapters(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "whole", "text")
    save_adapter(tmp_path / "part", "connector")
    checks = {
        check.name: check.ok for check in verify(base, forward=False, adapters=[tmp_path / "whole", tmp_path / "part"])
    }
    assert checks["whole is an adapter that vLLM serves"]
    assert not checks["part is an adapter that vLLM serves"]


def test_a_merged_checkpoint_is_the_adapted_model(base: Path, tmp_path: Path) -> None:
    adapted = save_adapter(
        tmp_path / "adapter", "text", "low_res", "fusion", modules_to_save=["multi_modal_projector"]
    )
    output = merge_adapter(base, tmp_path / "adapter", tmp_path / "merged")
    merged = FilaForConditionalGeneration.from_pretrained(output).state_dict()
    expected = adapted.merge_and_unload().state_dict()  # type: ignore[operator]
    assert merged.keys() == expected.keys()
    torch.testing.assert_close(merged, expected)
    assert (output / "processor_config.json").is_file()


def test_nothing_is_written_for_an_adapter_of_another_model(base: Path, tmp_path: Path) -> None:
    other = tiny_model(vision_feature_layer=-1)
    layers = other.config.text_config.num_hidden_layers
    save_adapter(tmp_path / "adapter", "text")
    config = other.config
    config.text_config.num_hidden_layers = layers - 1
    FilaForConditionalGeneration(config).save_pretrained(tmp_path / "smaller")
    with pytest.raises(ValueError, match="do not pair up"):
        merge_adapter(tmp_path / "smaller", tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
