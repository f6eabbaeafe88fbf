# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""transformers' own MiniCPM-V 4.6, imported: the same prompt, pixels, logits and answers in both modes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.minicpmv4_6 import modeling_minicpmv4_6
from transformers.models.minicpmv4_6.configuration_minicpmv4_6 import MiniCPMV4_6Config
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil

from fila.conversion.export_checkpoint import export_checkpoint
from fila.conversion.import_checkpoint import import_checkpoint
from fila.conversion.system_minicpm_v_4_6 import settings_of
from tests.cases import each
from tests.conversion.originals import QWEN3_5
from tests.conversion.parts import LLAMA_SIZES, byte_tokenizer, edit_json
from tests.helpers import random_image, randomise

SIDE, PATCH, PLACEHOLDER = 56, 7, "<|image_pad|>"
VISION = {
    "hidden_size": 20,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 42,
    "patch_size": PATCH,
}
# An image of one view, a square cut in two, two by three slices, a strip. Older versions of the class reshape all
# views by the first one's grid, and their processor ignores the mode: there one view in mode 16x can be compared.
ANY_SHAPE = not hasattr(modeling_minicpmv4_6, "get_vision_merged_shape")
MODES = ["16x", "4x"] if ANY_SHAPE else ["16x"]
SIZES = [(50, 60), *([(80, 80), (97, 143), (31, 190)] if ANY_SHAPE else [])]
# Share of the largest logit, of up to 4.3; worst measured: 0 in float64, 5.8e-6 in float32.
TOLERANCE = 1e-5
SPECIALS = [
    "<image>",
    "</image>",
    "<slice>",
    "</slice>",
    "<image_id>",
    "</image_id>",
    "<|im_start|>",
    "<|im_end|>",
    PLACEHOLDER,
]


@pytest.fixture(scope="module", params=MODES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, Path]:
    folder = tmp_path_factory.mktemp("minicpm")
    tokenizer = byte_tokenizer(SPECIALS, None)
    tokenizer.pad_token = "<unk>"
    theirs = modeling_minicpmv4_6.MiniCPMV4_6ForConditionalGeneration(
        MiniCPMV4_6Config(
            vision_config=VISION,
            text_config={"model_type": "qwen3_5_text", "vocab_size": len(tokenizer), **LLAMA_SIZES, **QWEN3_5},
            insert_layer_id=1,
            image_size=SIDE,
            downsample_mode=request.param,
            image_token_id=len(tokenizer) - 1,
        )
    )
    randomise(theirs, std=0.1)
    theirs.eval().save_pretrained(folder / "theirs")
    tokenizer.save_pretrained(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours", system="minicpm-v-4.6", progress=False)
    model = AutoModelForImageTextToText.from_pretrained(folder / "ours").eval()
    # the language model makes differences of 1e-7 in its input as large as 6e-6 in its logits
    theirs.double()
    model.double()
    return theirs, model, AutoProcessor.from_pretrained(folder / "ours"), folder


def packed(inputs: Any) -> dict[str, torch.Tensor]:
    """Our inputs in the form of transformers' class: the patches of all views in one row."""
    views, sizes = [], []
    for pixels, grids, boxes in zip(inputs["pixel_values"], inputs["patch_grids"], inputs["view_boxes"], strict=True):
        for view, grid in zip(pixels[: boxes.any(-1).sum()], grids, strict=False):
            views.append(view[..., : int(grid.prod()) * PATCH])
            sizes.append(grid)
    return {"pixel_values": torch.cat(views, dim=-1)[None], "target_sizes": torch.stack(sizes)}


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).abs().max() / expected.abs().max()) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_pixels_and_logits_equal_transformers(both: Any, size: tuple[int, int]) -> None:
    theirs, model, processor, _ = both
    image = random_image(*size)
    inputs = processor(images=image, text=f"What is {PLACEHOLDER}?", return_tensors="pt")
    drawn = MiniCPMV4_6ImageProcessorPil(
        scale_resolution=SIDE, patch_size=PATCH, downsample_mode=theirs.config.downsample_mode
    )(image, return_tensors="pt")
    own = packed(inputs)
    assert own["target_sizes"].tolist() == drawn["target_sizes"].tolist()
    torch.testing.assert_close(own["pixel_values"], drawn["pixel_values"], rtol=0, atol=1e-5)
    divisor = {"16x": 16, "4x": 4}[theirs.config.downsample_mode]
    tokens = int((own["target_sizes"].prod(-1) // divisor).sum())
    assert int((inputs["input_ids"] == theirs.config.image_token_id).sum()) == tokens
    expected = theirs(input_ids=inputs["input_ids"], **own).logits
    assert_near(model(**inputs).logits, expected)


@torch.no_grad()
def test_batch_with_a_text_row_decodes_alike(both: Any) -> None:
    theirs, model, processor, _ = both
    images = [random_image(*SIZES[-1]), random_image(50, 60, seed=1), random_image(50, 60, seed=2)]
    texts = [f"two {PLACEHOLDER} and {PLACEHOLDER}", "none at all", f"one {PLACEHOLDER}"]
    inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
    own = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], **packed(inputs)}
    mask = inputs["attention_mask"].bool()
    assert_near(model(**inputs).logits[mask], theirs(**own).logits[mask])
    options = {"max_new_tokens": 5, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    found, expected = model.generate(**inputs, **options), theirs.generate(**own, **options)
    assert found.sequences.tolist() == expected.sequences.tolist()
    assert_near(torch.stack(found.logits), torch.stack(expected.logits))


@torch.no_grad()
def test_beams_equal_transformers(both: Any) -> None:
    theirs, model, processor, _ = both
    inputs = processor(images=random_image(*SIZES[-1]), text=f"What is {PLACEHOLDER}?", return_tensors="pt")
    options = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False}
    expected = theirs.generate(input_ids=inputs["input_ids"], **packed(inputs), **options)
    assert model.generate(**inputs, **options).tolist() == expected.tolist()


def test_export_gives_the_checkpoint_back(both: Any, tmp_path: Path) -> None:
    *_, folder = both
    export_checkpoint(folder / "ours", tmp_path / "back", original=folder / "theirs", progress=False)
    back, state = (load_file(path / "model.safetensors") for path in (tmp_path / "back", folder / "theirs"))
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in back.items())


def test_other_mode_can_be_chosen(both: Any, tmp_path: Path) -> None:
    theirs, _, _, folder = both
    other, after, multiple = {"16x": ("4x", None, 2), "4x": ("16x", 2, 4)}[theirs.config.downsample_mode]
    source = tmp_path / "theirs"
    source.mkdir()
    for path in (folder / "theirs").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    edit_json(source / "config.json", downsample_mode=other)
    import_checkpoint(source, tmp_path / "ours", system="minicpm-v-4.6", progress=False)
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["vision_config"]["tower_options"]["merge_after"] == after
    assert AutoProcessor.from_pretrained(tmp_path / "ours").image_processor.canvas["multiple"] == multiple


@each(
    ("changes", "message"),
    [
        ({"downsample_mode": "8x"}, r"`downsample_mode` of MiniCPM-V 4.6 must be one of \['16x', '4x'\]; got '8x'"),
        ({"drop_vision_last_layer": True}, r"`drop_vision_last_layer` of MiniCPM-V 4.6 is true"),
        ({"merge_kernel_size": [3, 3]}, r"`merge_kernel_size` of MiniCPM-V 4.6 must be \[2, 2\]; got \[3, 3\]"),
        (
            {"vision_config": {"window_kernel_size": (4, 4)}},
            r"`window_kernel_size` of MiniCPM-V 4.6 must be \[2, 2\]; got \(4, 4\)",
        ),
        (
            {"insert_layer_id": -1, "vision_config": VISION},
            r"`insert_layer_id` of MiniCPM-V 4.6 .+ must be in 0\.\.2 in mode 16x; got -1",
        ),
        ({"insert_layer_id": 3, "vision_config": VISION}, r"must be in 0\.\.2 in mode 16x; got 3"),
        (
            {"text_config": {"model_type": "qwen9_text"}},
            r"The language model of this MiniCPM-V 4.6 is 'qwen9_text', which `AutoModel` of this transformers cannot",
        ),
    ],
)
def test_config_that_the_code_does_not_compute_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(changes)
