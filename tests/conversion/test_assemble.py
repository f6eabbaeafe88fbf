# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

import fila
from fila.conversion.assemble import assemble
from tests.conversion.parts import BRACKETS, edit_json, write_clip, write_convnext, write_text
from tests.conversion.test_gguf_text import write_gguf
from tests.helpers import assert_close, random_image

CLIP_KINDS = ["CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection", "prefixed"]
CONVNEXT_KINDS = [
    "ConvNextModel",
    "ConvNextForImageClassification",
    "ConvNextV2Model",
    "timm",
    "timm-conv-mlp",
    "timm-v2",
    "eagle",
    "open_clip",
]


class Parts:
    """Three source folders and the models that were saved in them."""

    def __init__(self, root: Path, *, clip: str = "CLIPVisionModel", convnext: str = "ConvNextModel", **text: Any):
        self.root = root
        self.clip = write_clip(root / "clip", clip)
        self.convnext = write_convnext(root / "convnext", convnext)
        self.text = write_text(root / "text", **text)

    def assemble(self, **options: Any) -> Path:
        settings: dict[str, Any] = {"high_res": self.root / "convnext", "progress": False} | options
        return assemble(self.root / "clip", text=self.root / "text", output=self.root / "out", **settings)


def _load(folder: Path) -> Any:
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_low_res_tower_matches_its_source(tmp_path: Path, kind: str) -> None:
    parts = Parts(tmp_path, clip=kind)
    tower = _load(parts.assemble()).model.vision_tower.low_res_tower
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        source = parts.clip
        expected = source.pre_layrnorm(source.embeddings(pixels))
        for layer in source.encoder.layers[:4]:
            expected = layer(expected, None)
        assert_close(tower.run_layers(tower.embed(pixels), 0, 4), expected, 0.0)


@pytest.mark.parametrize("kind", CONVNEXT_KINDS)
def test_high_res_tower_matches_its_source(tmp_path: Path, kind: str) -> None:
    parts = Parts(tmp_path, convnext=kind)
    tower = _load(parts.assemble()).model.vision_tower.high_res_tower
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = parts.convnext(pixels).last_hidden_state
        # The same operations; measured 0. Kernels may differ where the pointwise layers see 3-D activations.
        assert_close(tower.run_stages(tower.embed(pixels), 0, 4), expected, 2e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_language_model_matches_its_source(tmp_path: Path, tied: bool) -> None:
    parts = Parts(tmp_path, tied=tied)
    model = _load(parts.assemble())
    ids = torch.randint(3, 250, (2, 7))
    with torch.no_grad():
        expected = parts.text(ids).logits
        assert_close(model(ids).logits[..., : expected.shape[-1]], expected, 0.0)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied


def test_checkpoint_answers_about_an_image(tmp_path: Path) -> None:
    folder = Parts(tmp_path).assemble(canvas={"type": "fila"})
    model, processor = _load(folder), AutoProcessor.from_pretrained(folder)
    content = [{"type": "image", "image": random_image(40, 60)}, {"type": "text", "text": "What?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert type(model) is fila.FilaForConditionalGeneration
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 16 * len(inputs["view_boxes"][0])
    assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def test_new_token_gets_the_mean_row_and_the_rest_is_kept(tmp_path: Path) -> None:
    """259 byte tokens and a matrix of 259 rows: `<image>` and ChatML's two tokens need 262, so 320."""
    parts = Parts(tmp_path)
    model = _load(parts.assemble())
    for old, new in (
        (parts.text.model.embed_tokens.weight, model.get_input_embeddings().weight),
        (parts.text.lm_head.weight, model.lm_head.weight),
    ):
        assert torch.equal(new[:259], old)
        assert ((new[259:] - old.mean(0)).abs() < 0.06 * old.std(0)).all()
        assert len({tuple(row) for row in new[259:].tolist()}) == 61
    assert model.config.text_config.vocab_size == 320
    assert model.config.image_token_id == 259


def test_padding_rows_take_the_new_token(tmp_path: Path) -> None:
    parts = Parts(tmp_path, rows=300)
    model = _load(parts.assemble())
    assert torch.equal(model.get_input_embeddings().weight, parts.text.model.embed_tokens.weight)
    assert (model.config.text_config.vocab_size, model.config.image_token_id) == (300, 259)


def test_an_image_token_that_is_there_is_reused(tmp_path: Path) -> None:
    config = _load(Parts(tmp_path, tokens=["<x>", "<image>"], chat_template=BRACKETS).assemble()).config
    assert (config.text_config.vocab_size, config.image_token_id) == (261, 260)


def test_generation_config_keeps_settings_and_stops_at_the_end_of_a_turn(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    edit_json(tmp_path / "text" / "generation_config.json", eos_token_id=2, temperature=0.3, do_sample=True)
    folder = parts.assemble()
    generation, tokenizer = GenerationConfig.from_pretrained(folder), AutoProcessor.from_pretrained(folder).tokenizer
    assert generation.eos_token_id == [2, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert (generation.temperature, generation.pad_token_id) == (0.3, tokenizer.pad_token_id)


def test_sampling_settings_without_sampling_are_left_behind(tmp_path: Path) -> None:
    # Vicuna's file has them; transformers saves no such file any more
    parts = Parts(tmp_path)
    edit_json(tmp_path / "text" / "generation_config.json", temperature=0.9, top_p=0.6)
    saved = json.loads((parts.assemble() / "generation_config.json").read_text())
    assert not {"temperature", "top_p", "do_sample"} & saved.keys()


def test_licences_of_a_part_may_be_several(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    (tmp_path / "clip" / "README.md").write_text("---\nlicense: [mit, apache-2.0]\n---\n# clip\n")
    assert "| mit, apache-2.0 | pretrained |" in (parts.assemble() / "README.md").read_text()


def test_processor_has_the_parts_normalisation_and_sizes(tmp_path: Path) -> None:
    parts = Parts(tmp_path, convnext="timm")
    (tmp_path / "clip" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.6, 0.7], "image_std": [1, 1, 1]}'
    )
    images = AutoProcessor.from_pretrained(parts.assemble()).image_processor
    assert list(images.image_mean) == [0.5, 0.6, 0.7]
    assert list(images.high_res_image_mean) == [0.1, 0.2, 0.3]
    assert (images.size["height"], images.high_res_size["height"]) == (28, 128)


def test_single_tower_has_no_high_res_side(tmp_path: Path) -> None:
    folder = Parts(tmp_path).assemble(high_res=None, fusion={"type": "none"})
    assert _load(folder).config.high_res_vision_config is None
    assert AutoProcessor.from_pretrained(folder).image_processor.high_res_size is None


@pytest.mark.parametrize("canvas", ["native", "minicpm", "uhd"])
def test_views_of_any_size_answer(tmp_path: Path, canvas: str) -> None:
    """The canvas takes the tower's patches, which have 7 pixels, and the processor counts them."""
    folder = Parts(tmp_path).assemble(high_res=None, fusion={"type": "none"}, canvas={"type": canvas})
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.image_processor.canvas["patch_size"] == 7
    inputs = processor(text="<image>", images=random_image(60, 100), return_tensors="pt")
    assert _load(folder)(**inputs).logits.isfinite().all()


@pytest.mark.parametrize("from_folder", [True, False])
def test_high_res_tower_from_random_weights_is_called_untrained(tmp_path: Path, from_folder: bool) -> None:
    parts = Parts(tmp_path)
    (tmp_path / "convnext" / "model.safetensors").unlink()
    init = tmp_path / "convnext" if from_folder else "convnext-atto"
    folder = parts.assemble(high_res=None, high_res_init=init)
    widths = list(_load(folder).config.high_res_vision_config.hidden_sizes)
    assert widths == ([5, 7, 11, 13] if from_folder else [40, 80, 160, 320])
    card = (folder / "README.md").read_text()
    assert "**UNTRAINED: high-res tower, fusion, connector.**" in card
    assert "2 tensors of clip (it norms the pooled CLS token, which nothing reads)" in card


def test_text_from_gguf(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    write_convnext(tmp_path / "convnext")
    tensors = write_gguf(tmp_path / "x.gguf")
    folder = assemble(
        tmp_path / "clip",
        tmp_path / "convnext",
        tmp_path / "x.gguf",
        tmp_path / "out",
        dtype="float32",
        progress=False,
    )
    model = _load(folder)
    values = torch.from_numpy(tensors["blk.0.ffn_down.weight"])
    assert torch.equal(model.model.language_model.layers[0].mlp.down_proj.weight, values)
    assert "| language model | x.gguf |" in (folder / "README.md").read_text()
    assert not (folder / "text.partial").exists()


def test_sharded_parts_and_output(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    single = load_file(parts.assemble() / "model.safetensors")
    parts.text.save_pretrained(tmp_path / "text", max_shard_size="20KB")
    (tmp_path / "text" / "model.safetensors").unlink()
    folder = parts.assemble(max_shard_size="30KB", overwrite=True)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    merged = {key: tensor for shard in shards for key, tensor in load_file(shard).items()}
    assert set(merged) == set(single)
    assert all(torch.equal(merged[key], single[key]) for key in single)
    _load(folder)


@pytest.mark.parametrize(("stored", "asked", "expected"), [("bfloat16", None, "BF16"), ("bfloat16", "float32", "F32")])
def test_dtype_is_the_language_models_or_the_one_asked_for(
    tmp_path: Path, stored: str, asked: str | None, expected: str
) -> None:
    folder = Parts(tmp_path, dtype=getattr(torch, stored)).assemble(dtype=asked)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {expected}  # noqa: SIM118


def test_output_is_reproducible(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    first = (parts.assemble() / "model.safetensors").read_bytes()
    assert (parts.assemble(overwrite=True) / "model.safetensors").read_bytes() == first
    assert (parts.assemble(overwrite=True, seed=1) / "model.safetensors").read_bytes() != first


def test_configs_carry_nothing_of_the_sources_bookkeeping(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    edit_json(
        tmp_path / "text" / "config.json", _name_or_path="/home/me/text", _attn_implementation_internal="x/y", odd=1
    )
    edit_json(tmp_path / "text" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Tok", None]})
    folder = parts.assemble()
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["auto_map"] == {"AutoProcessor": "processing_fila.FilaProcessor"}
    assert "/home/me" not in (folder / "config.json").read_text()
    assert not {"_attn_implementation_internal", "odd", "torch_dtype"} & set(config["text_config"])
    assert config["architectures"] == ["FilaForConditionalGeneration"]


@pytest.mark.parametrize(
    ("part", "stranger", "message"),
    [
        (
            "clip",
            "encoder.layers.0.extra.weight",
            r"1 tensors have no place in the model, e\.g\. .*low_res_tower\.encoder",
        ),
        ("clip", "stranger", r"1 keys of clip were not consumed, e\.g\. 'stranger'"),
        ("convnext", "stranger", r"1 keys of convnext were not consumed, e\.g\. 'stranger'"),
        (
            "text",
            "model.layers.7.extra",
            r"1 tensors have no place in the model, e\.g\. .*language_model\.layers\.7\.extra",
        ),
    ],
)
def test_leftover_of_a_part_raises(tmp_path: Path, part: str, stranger: str, message: str) -> None:
    parts = Parts(tmp_path)
    path = tmp_path / part / "model.safetensors"
    save_file({**load_file(path), stranger: torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=message):
        parts.assemble()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "key", "name"),
    [
        ("clip", "encoder.layers.1.mlp.fc1.weight", "low_res_tower.encoder.layers.1.mlp.fc1.weight"),
        ("convnext", "encoder.stages.2.layers.1.dwconv.bias", "high_res_tower.encoder.stages.2.layers.1.dwconv.bias"),
        ("text", "lm_head.weight", "lm_head.weight"),
    ],
)
def test_missing_tensor_raises(tmp_path: Path, part: str, key: str, name: str) -> None:
    parts = Parts(tmp_path)
    path = tmp_path / part / "model.safetensors"
    state = load_file(path)
    del state[key]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=rf"1 tensors of the model are filled by no part, e\.g\. '.*{name}'"):
        parts.assemble()


def test_wrong_shape_raises_naming_key_and_part(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    edit_json(tmp_path / "clip" / "config.json", intermediate_size=41)
    with pytest.raises(
        RuntimeError, match=r"fc1\.weight' must have shape \(41, 20\); clip, 'encoder.* gives \(37, 20\)"
    ):
        parts.assemble()


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    path = tmp_path / "text" / "model.safetensors"
    state = load_file(path)
    state["model.norm.weight"] = state["model.norm.weight"].to(torch.int8)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"text: 'model\.norm\.weight' has dtype torch\.int8, so the part is quantized"
    ):
        parts.assemble()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high_res": None}, r"There is no high-res tower\. Pass `high_res`, or `high_res_init`"),
        ({"high_res_init": "convnext-femto"}, r"`high_res` and `high_res_init` both name the high-res tower"),
        ({"dtype": "int8"}, r"`dtype` must be one of \['bfloat16', 'float16', 'float32'\]; got 'int8'"),
        ({"max_shard_size": "big"}, r"`max_shard_size` must be"),
        ({"fusion": {"type": "glue"}}, r"`fusion\.type` must be one of .*got 'glue'"),
        ({"connector": {"type": "mlp", "depht": 3}}, r"has no option \['depht'\]"),
        ({"canvas": {"type": "round"}}, r"round"),
        (
            {"high_res": None, "fusion": {"type": "none"}, "canvas": {"type": "native", "patch_size": 14}},
            r"patches of canvas 'native' must be those of the low-res tower, 7 pixels; got 14",
        ),
    ],
)
def test_wrong_options_raise(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parts(tmp_path).assemble(**options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "convnext", "text"]


def test_parts_may_be_given_by_their_names(tmp_path: Path) -> None:
    folder = Parts(tmp_path).assemble(fusion="cvfm", connector="mlp", canvas="single")
    config = json.loads((folder / "config.json").read_text())
    assert (config["fusion"], config["connector"]) == ({"type": "cvfm"}, {"type": "mlp"})
    assert AutoProcessor.from_pretrained(folder).image_processor.canvas["type"] == "single"


def test_swapped_parts_are_told(tmp_path: Path) -> None:
    Parts(tmp_path)
    message = r"low-res part text has model_type 'llama'.* text part clip is a 'clip_vision_model': were `low_res` and"
    with pytest.raises(ValueError, match=message):
        assemble(tmp_path / "text", tmp_path / "convnext", tmp_path / "clip", tmp_path / "out")


def test_failing_write_leaves_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(tmp_path)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("fila.conversion.output.write_file", full)
    with pytest.raises(OSError, match="No space left"):
        parts.assemble()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "convnext", "text"]


def test_existing_output_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.assemble()
    with pytest.raises(FileExistsError, match="out exists"):
        parts.assemble()
