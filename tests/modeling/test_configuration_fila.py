# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from fila import FilaConfig, FilaForConditionalGeneration
from tests.helpers import single_tower, tiny_config


def test_defaults_are_the_flagship_sizes() -> None:
    config = FilaConfig()
    assert (config.vision_config.hidden_size, config.vision_config.image_size, config.vision_config.patch_size) == (
        1024,
        336,
        14,
    )
    assert config.high_res_vision_config.hidden_sizes == [192, 384, 768, 1536]
    assert config.text_config.model_type == "llama"
    assert (config.high_res_tile_size, config.patch_grid, config.num_vision_layers) == (768, (24, 24), 23)
    assert (config.fusion, config.connector) == ({"type": "cvfm"}, {"type": "mlp"})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="hybrid"),
        pytest.param(single_tower(), id="single-tower"),
        pytest.param(
            {"high_res_vision_config": {"model_type": "convnextv2"}, "high_res_overview": "encode"}, id="convnextv2"
        ),
        pytest.param({"text_config": {"model_type": "qwen2"}, "tie_word_embeddings": True}, id="another-text-model"),
        pytest.param({"fusion": {"type": "channel_concat", "stage": 3}}, id="fusion-option"),
    ],
)
def test_config_survives_saving(changes: dict[str, Any], tmp_path: Path) -> None:
    config = tiny_config(**changes)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is FilaConfig
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert FilaConfig.from_dict(config.to_diff_dict()).to_dict() == config.to_dict()


def test_tied_embeddings_follow_the_text_model_unless_set() -> None:
    tied = {"model_type": "llama", "tie_word_embeddings": True}
    assert FilaConfig(text_config=tied).tie_word_embeddings is True
    assert FilaConfig(text_config=tied, tie_word_embeddings=False).tie_word_embeddings is False
    assert FilaConfig().tie_word_embeddings is False


def test_settings_of_a_part_that_this_transformers_does_not_know_stay() -> None:
    # a checkpoint of a later version has them; what is almost a setting is misspelt instead
    config = FilaConfig(
        text_config={"hidden_size": 32, "sparse_mixer": "even", "pretraining_tp": 1, "_commit_hash": "0"}
    )
    assert config.text_config.sparse_mixer == "even"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_tokn_id": 3}, r"no setting `image_tokn_id`; did you mean `image_token_id`\?"),
        ({"gibberish": 3}, r"no setting `gibberish`\.$"),
        (single_tower(high_res_tile_size=128), r"a single-tower model has no high-res canvas"),
        ({"vision_feature_layer": 6}, r"must name one of the 5 layers .* got 6"),
        ({"vision_feature_layer": 0}, r"must name one of the 5 layers .* got 0"),
        ({"vision_config": {"image_size": 30, "patch_size": 7}}, r"must be a multiple of `patch_size`; got 30 and 7"),
        (
            {"text_config": {"hiden_size": 32}},
            r"`text_config` has no setting `hiden_size`; did you mean `hidden_size`\?",
        ),
        (
            {"vision_config": {"patch_sizes": 7}},
            r"`vision_config` has no setting `patch_sizes`; did you mean `patch_s",
        ),
        ({"vision_config": {"model_type": "clop"}}, r"`vision_config.model_type` 'clop' is not a model type"),
        ({"vision_config": {"model_type": "bert"}}, r"`vision_config.model_type` 'bert' must be a vision tower"),
        ({"tile_size": 0}, r"`tile_size` must be at least 1; got 0"),
        ({"high_res_tile_size": -128}, r"`high_res_tile_size` must be at least 1; got -128"),
        ({"slice_positions": -1}, r"`slice_positions` must be at least 0; got -1"),
    ],
)
def test_config_rejects_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_parts_may_be_given_by_their_names() -> None:
    config = tiny_config(fusion="cvfm", connector="linear")
    assert (config.fusion, config.connector) == ({"type": "cvfm"}, {"type": "linear"})
    changed = FilaConfig.from_recipe("llava-hr", fusion="cvfm", connector="mlp")
    assert (changed.fusion, changed.connector) == ({"type": "cvfm"}, {"type": "mlp"})


@pytest.mark.parametrize("name", ["fusion", "connector"])
def test_an_unknown_name_lists_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}\.type` must be one of \[.*\]; got 'glue'"):
        FilaForConditionalGeneration(tiny_config(**{name: "glue"}))


@pytest.mark.parametrize("setting", [{"image_token_id": "seven"}, {"high_res_overview": "poool"}, {"fusion": 5}])
def test_config_rejects_wrong_types(setting: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(setting))) as error:
        tiny_config(**setting)
    assert "Validation error" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion": {"type": "cvfn"}},
            r"`fusion.type` must be one of \['cbam', 'channel_concat', .*'upsample_concat'\]; got 'cvfn'",
        ),
        (
            {"fusion": {"type": "cvfm", "tap": [1]}},
            r"Fusion 'cvfm' has no option \['tap'\]; it accepts \['taps', 'stages'",
        ),
        ({"fusion": {"type": ["cvfm"]}}, r"`fusion.type` must be one of .*; got \['cvfm'\]"),
        ({"fusion": {"type": "cvfm", "taps": "12"}}, r"`fusion.taps` must be a list of whole numbers, .* got '12'"),
        ({"fusion": {"type": "cross_attention", "taps": 2}}, r"`fusion.taps` must be a list of whole .* got 2\."),
        ({"fusion": {"type": "cvfm", "taps": [1.0]}}, r"`fusion.taps` must be a list of whole .* got \[1\.0\]"),
        (
            {"fusion": {"type": "cvfm", "taps": [1], "stages": 1}},
            r"`fusion.stages` must be a list of whole numbers, .* got 1\.",
        ),
        ({"fusion": {"type": "cvfm", "taps": [2, 1]}}, r"`fusion.taps` must be increasing layers .* got \[2, 1\]"),
        (
            {"fusion": {"type": "cvfm", "taps": [1, 9]}},
            r"increasing layers of the low-res tower, 1\.\.4; got \[1, 9\]",
        ),
        (
            {"fusion": {"type": "cvfm", "taps": [1], "stages": [5]}},
            r"increasing stages of the high-res tower, 1\.\.4; got \[5\]",
        ),
        ({"fusion": {"type": "cvfm", "taps": [1, 2], "stages": [1]}}, r"must pair up; got \[1, 2\] and \[1\]"),
        (
            {"fusion": {"type": "cvfm", "taps": [1], "align": "nearest"}},
            r"`fusion.align` must be one of \['conv', 'pool', 'bilinear', 'corners'\]",
        ),
        ({"fusion": {"type": "cvfm", "taps": [1], "residual": "x"}}, r"`fusion.residual` must be one of"),
        ({"fusion": {"type": "cvfm", "taps": [1], "cls": "x"}}, r"`fusion.cls` must be one of"),
        (
            {"fusion": {"type": "cvfm", "taps": [1], "hidden_act": "golu"}},
            r"`fusion.hidden_act` must be an activation",
        ),
        (
            {"high_res_tile_size": 96},
            r"'conv' halves a view's 24x24 cells to 4x4 patches, so the ratio must be a power of two",
        ),
        (
            {"high_res_tile_size": 100, "fusion": {"type": "cvfm", "align": "pool"}},
            r"`high_res_tile_size` must be a multiple of 8, the stride of stage 2",
        ),
        (
            {"fusion": {"type": "channel_concat", "stage": 0}},
            r"`fusion.stage` must be a stage of the high-res tower, 1\.\.4; got 0",
        ),
        (
            {"connector": {"type": "mpl"}},
            r"`connector.type` must be one of \['adaptive_resampler', .*'resampler', .*\]; got 'mpl'",
        ),
        (
            {"connector": {"type": ["mlp"]}},
            r"`connector.type` must be one of .*; got \['mlp'\]",
        ),
        (
            {"connector": {"type": "mlp", "input_size": 3}},
            r"Connector 'mlp' has no option \['input_size'\]; it accepts",
        ),
        ({"connector": {"type": "mlp", "hidden_act": "golu"}}, r"`connector.hidden_act` must be an activation"),
        (
            {"vision_config": {"model_type": "vit", "image_size": 28, "patch_size": 7}},
            r"`vision_config.model_type` must be one of \['clip_vision_model', 'dinov2', .+\]; got 'vit'",
        ),
        (
            {"high_res_vision_config": {"model_type": "swin"}},
            r"must be one of \['clip_vision_model', 'convnext', .+\]; got 'swin'",
        ),
    ],
)
def test_model_rejects_unknown_parts_and_options_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilaForConditionalGeneration(tiny_config(**changes))


@pytest.mark.parametrize(("depth", "taps"), [(24, (2, 6, 12, 20)), (12, (1, 3, 6, 10)), (48, (4, 12, 24, 40))])
def test_default_taps_keep_the_papers_fractions_of_the_depth(depth: int, taps: tuple[int, ...]) -> None:
    from fila.modeling.fusion import build_fusion

    vision = {
        "hidden_size": 20,
        "num_attention_heads": 4,
        "num_hidden_layers": depth,
        "image_size": 28,
        "patch_size": 7,
    }
    fusion = build_fusion(tiny_config(vision_config=vision, fusion={"type": "cvfm"}))
    assert fusion.taps == tuple(zip(taps, (1, 2, 3, 4), strict=True))


def test_token_ids_that_trainer_writes_beside_the_text_config_go_into_it() -> None:
    config = tiny_config(bos_token_id=7, eos_token_id=None)
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (7, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"text_config": {"model_type": "qwen2", "num_hidden_layers": 10**9}},
            r"text_config.num_hidden_layers` is 10",
        ),
        ({"vision_config": {"num_hidden_layers": 10**6}}, r"vision_config.num_hidden_layers` is 1000000"),
        ({"high_res_vision_config": {"depths": [1, 10**7]}}, r"depths` is \[1, 10000000\]: more than any model has"),
        ({"connector": {"type": "mlp", "depth": 10**9}}, r"connector.depth` is 1000000000"),
        ({"image_token_id": 2**31}, r"`image_token_id` must be an id of a token, in 0..2147483647; got 2147483648"),
        ({"video_token_id": -1}, r"`video_token_id` must be an id of a token"),
    ],
)
def test_counts_that_no_model_has_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilaConfig(**changes)
