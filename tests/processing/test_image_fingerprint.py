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
from fila.processing.image_fingerprint import PreprocessingError, check_preprocessing, differing, fingerprint
from tests.cases import each
from tests.helpers import tiny_config, tiny_image_processor, tiny_processor
from tests.tiny_videos import video_tokenizer


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
    for module in ("image_fingerprint", "image_processing_fila"):
        logger = logging.get_logger(f"fila.processing.{module}")
        monkeypatch.setattr(logger, "warning", told.append)
    return told


OF_BOTH: list[dict[str, Any]] = [  # images and frames
    {"size": 14},
    {"high_res_size": 64},
    {"resample": 2},
    {"do_convert_rgb": False},
    {"do_rescale": False},
    {"rescale_factor": 1.0},
    {"do_normalize": False},
    {"image_mean": [0.1, 0.2, 0.3]},
    {"image_std": [0.1, 0.2, 0.3]},
    {"high_res_image_mean": [0.1, 0.2, 0.3]},
    {"high_res_image_std": [0.1, 0.2, 0.3]},
]
CHANGES: list[dict[str, Any]] = [{"canvas": {"type": "fila", "overview": False}}, {"mode": "fast"}, *OF_BOTH]


@each("change", CHANGES, ids=str)
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_token_id": 7}, r"the image token has id 5 here, and 7 in the model. Load both from one folder"),
        (
            {"text_config": {"vocab_size": 100}},
            r"the tokenizer has ids up to 261, and the model 100 tokens. Load both",
        ),
    ],
)
def test_check_model_refuses_the_processor_of_another_checkpoint(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_processor().check_model(tiny_config(**changes))


def test_config_keeps_the_settings(tmp_path: Path) -> None:
    settings = tiny_processor().preprocessing()
    tiny_config(preprocessing=settings).save_pretrained(tmp_path)
    loaded = type(tiny_config()).from_pretrained(tmp_path)
    assert fingerprint(loaded.preprocessing) == fingerprint(settings)


# --- videos ---

FRAMES: dict[str, Any] = {"size": 28, "sampling": {"type": "seconds", "num_frames": 3}}
VIDEO_CHANGES: list[dict[str, Any]] = [
    {"sampling": {"type": "seconds", "num_frames": 4}},
    {"sampling": {"type": "uniform"}},
    {"canvas": {"type": "fila"}},
    *OF_BOTH,
    {"do_center_crop": True},
    {"antialias": False},
]


def video_processor(frames: dict[str, Any] | None = None, **settings: Any) -> FilaProcessor:
    images = tiny_image_processor(high_res_size=None)
    return FilaProcessor(images, video_tokenizer(), video_processor={**FRAMES, **(frames or {})}, **settings)


@pytest.fixture
def video_checkpoint(tmp_path: Path) -> Path:
    """A processor of videos beside the config of a model that was trained with it."""
    video_processor().save_pretrained(tmp_path)
    tiny_config(preprocessing=video_processor().preprocessing()).save_pretrained(tmp_path)
    return tmp_path


@each("change", VIDEO_CHANGES, ids=str)
def test_preprocessing_follows_every_setting_of_videos(change: dict[str, Any]) -> None:
    plain, changed = video_processor(), video_processor(change)
    assert differing(plain.preprocessing(), changed.preprocessing()) == [f"video_{name}" for name in change]
    assert plain.image_processor.fingerprint == changed.image_processor.fingerprint


def test_preprocessing_has_the_layout_and_tokens_of_videos() -> None:
    other = video_processor(video_layout={"type": "frame_index"}, clip_tokens={"per_clip": 3})
    assert differing(video_processor().preprocessing(), other.preprocessing()) == ["clip_tokens", "video_layout"]
    same = video_processor({"max_frames": 7, "sampling": {"num_frames": 3, "type": "seconds"}})
    assert same.preprocessing() == video_processor().preprocessing()


def test_preprocessing_without_videos_says_nothing_of_them() -> None:
    assert not [name for name in tiny_processor().preprocessing() if "video" in name or "clip" in name]


def test_processor_of_videos_beside_its_model_is_loaded_in_silence(video_checkpoint: Path, warned: list[str]) -> None:
    loaded = AutoProcessor.from_pretrained(video_checkpoint)
    assert loaded.preprocessing() == video_processor().preprocessing()
    assert warned == []


def test_processor_of_a_training_with_other_videos_is_refused(video_checkpoint: Path) -> None:
    video_processor({"sampling": {"type": "fps"}}).save_pretrained(video_checkpoint)
    with pytest.raises(
        PreprocessingError, match=r"`video_sampling` is \{.*'fps'.* here and was .*'seconds'"
    ) as caught:
        AutoProcessor.from_pretrained(video_checkpoint)
    assert caught.value.settings == ("video_sampling",)
    with pytest.raises(PreprocessingError, match="`video_sampling` is"):  # the canvas that it names is the images'
        AutoProcessor.from_pretrained(video_checkpoint, canvas={"type": "single"})


@pytest.mark.parametrize(
    "named", [{"sampling": {"type": "fps"}}, {"video_processor": {**FRAMES, "sampling": {"type": "fps"}}}], ids=[*"ab"]
)
def test_setting_of_videos_that_the_call_names_is_taken(
    video_checkpoint: Path, warned: list[str], named: dict[str, Any]
) -> None:
    loaded = AutoProcessor.from_pretrained(video_checkpoint, **named)
    assert loaded.video_processor.sampling == {"type": "fps"}
    assert dict(loaded.video_processor.size) == {"height": 28, "width": 28}
    assert len(warned) == 1
    assert warned[0].startswith("The processor differs from what the model was trained with: `video_sampling` is")


def test_settings_of_videos_that_a_call_names_are_checked(video_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="`sampling` must be a dict whose 'type' is one of"):
        FilaProcessor.from_pretrained(video_checkpoint, sampling={"type": "all"})
    with pytest.raises(ValueError, match="has no setting `samplings`; did you mean `sampling`"):
        FilaProcessor.from_pretrained(video_checkpoint, samplings={"type": "fps"})


def test_setting_of_videos_needs_a_video_processor(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"has no video processor, whose settings \['sampling'\] are"):
        FilaProcessor.from_pretrained(checkpoint, sampling={"type": "fps"})


def test_model_that_kept_no_settings_of_videos_takes_any(video_checkpoint: Path, warned: list[str]) -> None:
    of_images = {k: v for k, v in video_processor().preprocessing().items() if "video" not in k and "clip" not in k}
    tiny_config(preprocessing=of_images).save_pretrained(video_checkpoint)
    video_processor({"sampling": {"type": "fps"}}).save_pretrained(video_checkpoint)
    assert AutoProcessor.from_pretrained(video_checkpoint).video_processor.sampling == {"type": "fps"}
    assert warned == []
