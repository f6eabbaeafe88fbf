# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What decides pixels: saved with processor and model, compared where a processor is loaded or used."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor
from transformers.utils import logging

from fila import FilaImageProcessorPil, FilaProcessor
from fila.processing.fingerprint import PreprocessingError, check_preprocessing, differing, fingerprint
from tests.helpers import tiny_config, tiny_image_processor, tiny_processor


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A processor beside the config of a model that was trained with it."""
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    tiny_config(preprocessing=processor.preprocessing()).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the library logs as warnings."""
    told: list[str] = []
    for module in ("fingerprint", "image_processing_fila"):
        logger = logging.get_logger(f"fila.processing.{module}")
        monkeypatch.setattr(logger, "warning", told.append)
    return told


CHANGES: list[dict[str, Any]] = [
    {"canvas": {"type": "fila", "overview": False}},
    {"size": 14},
    {"high_res_size": 64},
    {"resample": 2},
    {"mode": "fast"},
    {"do_convert_rgb": False},
    {"do_rescale": False},
    {"rescale_factor": 1.0},
    {"do_normalize": False},
    {"image_mean": [0.1, 0.2, 0.3]},
    {"image_std": [0.1, 0.2, 0.3]},
    {"high_res_image_mean": [0.1, 0.2, 0.3]},
    {"high_res_image_std": [0.1, 0.2, 0.3]},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_fingerprint_follows_every_setting_of_pixels(change: dict[str, Any]) -> None:
    plain, changed = tiny_image_processor(), tiny_image_processor(**change)
    assert plain.fingerprint != changed.fingerprint
    assert differing(plain.preprocessing(), changed.preprocessing()) == [*change]
    assert plain.preprocessing(**change) == changed.preprocessing()


def test_fingerprint_ignores_how_a_setting_is_written() -> None:
    plain = tiny_image_processor(image_mean=(0.1, 0.2, 0.3))
    same = tiny_image_processor(
        image_mean=[0.1, 0.2, 0.3], size=28, canvas={"rule": "enclose", "type": "fila"}, return_image_sizes=True
    )
    assert plain.fingerprint == same.fingerprint
    assert json.loads(json.dumps(plain.preprocessing())) == plain.preprocessing()


def test_fingerprint_does_not_change_from_release_to_release() -> None:
    # Models keep it: another value here means that every checkpoint is told to differ.
    assert FilaImageProcessorPil().fingerprint == "7679eb9c5a2c236b"


def test_fingerprint_is_saved_with_the_image_processor(tmp_path: Path, warned: list[str]) -> None:
    tiny_image_processor().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["fingerprint"] == tiny_image_processor().fingerprint
    assert FilaImageProcessorPil.from_pretrained(tmp_path).fingerprint == saved["fingerprint"]
    assert warned == []


def test_edited_file_gives_a_warning(tmp_path: Path, warned: list[str]) -> None:
    tiny_image_processor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"resample": 3', '"resample": 2'))
    assert FilaImageProcessorPil.from_pretrained(tmp_path).resample == 2
    assert len(warned) == 1
    assert "are not those that were saved (fingerprint" in warned[0]


def test_processor_has_the_settings_of_tokens_too() -> None:
    processor = tiny_processor()
    other = FilaProcessor(processor.image_processor, processor.tokenizer, tokens_per_tile=3, layout={"type": "leo"})
    assert differing(processor.preprocessing(), other.preprocessing()) == ["layout", "tokens_per_tile"]


def test_processor_beside_its_model_is_loaded_in_silence(checkpoint: Path, warned: list[str]) -> None:
    for loader in (FilaProcessor, AutoProcessor):
        assert loader.from_pretrained(checkpoint).preprocessing() == tiny_processor().preprocessing()
    assert warned == []


def test_processor_of_another_training_is_refused(checkpoint: Path) -> None:
    tiny_processor(image_mean=[0.5] * 3, canvas={"type": "single"}).save_pretrained(checkpoint)
    message = (
        r"The processor does not do what the model was trained with: `canvas` is \{'type': 'single'\} here and was "
        r"\{'overview': True, .*\} in training; `image_mean` is \[0.5, 0.5, 0.5\] here .* name it: `from_pretrained"
    )
    with pytest.raises(PreprocessingError, match=message) as caught:
        AutoProcessor.from_pretrained(checkpoint)
    assert caught.value.settings == ("canvas", "image_mean")


def test_setting_that_the_call_names_gives_a_warning(checkpoint: Path, warned: list[str]) -> None:
    processor = AutoProcessor.from_pretrained(checkpoint, canvas={"type": "single"})
    assert processor.image_processor.canvas == {"type": "single"}
    assert any("The processor differs from what the model was trained with: `canvas` is" in line for line in warned)


def test_slight_differences_give_a_warning(checkpoint: Path, warned: list[str]) -> None:
    tiny_processor(mode="fast").save_pretrained(checkpoint)
    assert FilaProcessor.from_pretrained(checkpoint).image_processor.mode == "fast"
    assert any("`mode` is 'fast' here and was 'exact' in training" in line for line in warned)


def test_model_without_record_takes_any_processor(tmp_path: Path, warned: list[str]) -> None:
    tiny_config().save_pretrained(tmp_path)
    tiny_processor(canvas={"type": "single"}).save_pretrained(tmp_path)
    assert FilaProcessor.from_pretrained(tmp_path).image_processor.canvas == {"type": "single"}
    check_preprocessing(None, {"size": 3})
    assert warned == []


def test_settings_of_another_version_are_not_compared() -> None:
    check_preprocessing({"size": 3, "of_the_future": 1}, {"size": 3, "of_today": 2})


def test_check_model_takes_model_and_config() -> None:
    processor, config = tiny_processor(), tiny_config(preprocessing=tiny_processor(size=14).preprocessing())
    for model in (config, type("Model", (), {"config": config})()):
        with pytest.raises(PreprocessingError, match=r"`size` is 28 here and was 14 in training\. Load the processor"):
            processor.check_model(model)
    processor.check_model(tiny_config(preprocessing=processor.preprocessing()))


def test_config_keeps_the_settings(tmp_path: Path) -> None:
    settings = tiny_processor().preprocessing()
    tiny_config(preprocessing=settings).save_pretrained(tmp_path)
    loaded = type(tiny_config()).from_pretrained(tmp_path)
    assert fingerprint(loaded.preprocessing) == fingerprint(settings)
