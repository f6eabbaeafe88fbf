# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Streams before layers of the language model: the slow twin, and every way in which a model runs."""

import copy
import pickle
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModel, CLIPVisionModel, GenerationMixin, set_seed

from fila import FilaForConditionalGeneration
from fila.modeling.injection import build_injection
from fila.modeling.injection_layers import decoder_layers, extend_layers
from fila.modeling.modeling_outputs import FilaImageFeatures
from fila.training.scopes import audit_lora, lora_config
from tests.cases import each
from tests.contract.settings import fitting_processor
from tests.helpers import assert_close, random_image, randomise, single_tower, tiny_canvas, tiny_config, tiny_model
from tests.modeling.text_families import FAMILIES, tiny_text_config
from tests.modeling.tiny_towers import low_res
from tests.reference.naive_injection import naive_injection

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")

STREAMS: list[dict[str, Any]] = [
    {"tap": 1, "before": 0},
    {"layer": -3, "before": 3, "connector": {"type": "mlp", "norm": "input"}},
    {"layer": "fusion", "before": 2},
]
ZERO: dict[str, Any] = {
    "type": "streams",
    "input": "zero",
    "streams": [{"layer": 0, "before": 2}, {"tap": 4, "before": 1}],
}


def model_of(injection: Any = None, **changes: Any) -> FilaForConditionalGeneration:
    text = tiny_config().text_config.to_dict() | {"num_hidden_layers": 4}
    return tiny_model(
        **{"text_config": text, "injection": injection or {"type": "streams", "streams": STREAMS}, **changes}
    )


def batch_of(model: Any, *, labels: bool = False) -> dict[str, Any]:
    """Two images of other numbers of tiles, two in one row, and a row of text."""
    images = [[random_image(20, 50)], [random_image(28, 27, seed=1), random_image(9, 9, seed=2)], []]
    texts = ["<image> ab", "c <image> d <image>", "text"]
    made = dict(fitting_processor(model)(text=texts, images=images, padding=True, return_tensors="pt"))
    if labels:
        made["labels"] = made["input_ids"].masked_fill(made["attention_mask"] == 0, -100)
    return made


def image_inputs(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: batch[key] for key in batch if "pixel" in key or "size" in key or key in ("view_boxes", "tile_grid")}


@each("injection", [None, ZERO], ids=["tokens", "zero"])
def test_streams_equal_their_slow_twin(injection: Any) -> None:
    model = model_of(injection).double()
    model.model.language_model.set_attn_implementation("eager")
    batch = {key: value[:2] for key, value in batch_of(model).items()}
    ids = batch["input_ids"] = torch.arange(7, 57).repeat(2, 1)
    features = model.get_image_features(
        **{key: value.double() if value.is_floating_point() else value for key, value in image_inputs(batch).items()},
        return_dict=True,
    )
    placeholders = torch.zeros_like(ids, dtype=torch.bool)
    for sample, tokens in enumerate(features.pooler_output):
        placeholders[sample, 1 : 1 + len(tokens)] = True
    ids[placeholders] = model.config.image_token_id
    embeddings = model.get_input_embeddings()(ids).masked_scatter(
        placeholders[..., None], torch.cat(list(features.pooler_output))
    )
    before = dict(zip(model.model.injection.before, features.deepstack_features, strict=True))
    plain = copy.deepcopy(model.model.language_model)
    weights = dict(model.model.injection.named_parameters())
    expected = naive_injection(model.model.language_model, embeddings, placeholders, before)
    actual = model.model(ids, mm_encoder_outputs={"image": features}).last_hidden_state
    assert_close(actual, expected, 1e-11)
    direction = torch.randn_like(actual)
    inputs = list(weights.values())
    ours = torch.autograd.grad((actual * direction).sum(), inputs, retain_graph=True)
    theirs = torch.autograd.grad((expected * direction).sum(), inputs)
    for name, mine, reference in zip(weights, ours, theirs, strict=True):
        assert reference.abs().max() > 0, name
        assert (mine - reference).norm() <= 1e-10 * reference.norm(), name
    without = plain(inputs_embeds=embeddings).last_hidden_state
    assert (without - actual)[:, 1:].abs().max() > 0.1  # what is compared is there
    assert_close(without[:, 0], actual[:, 0], 1e-12)  # the text before an image does not see it


def test_no_injection_adds_no_module() -> None:
    model = tiny_model()
    assert model.model.injection is None
    assert not any("injection" in name for name, _ in model.named_modules())


@torch.no_grad()
def test_text_rows_are_those_of_the_language_model_alone() -> None:
    model = model_of()
    batch = batch_of(model)
    own = batch["attention_mask"][2].bool()
    ids = batch["input_ids"][2][own][None]
    assert_close(model(**batch).logits[2][own], model(input_ids=ids).logits[0], 1e-5)


@pytest.mark.parametrize("injection", [None, ZERO], ids=["tokens", "zero"])
@torch.no_grad()
def test_answers_with_a_cache_are_those_without(injection: Any) -> None:
    model = model_of(injection)
    batch = batch_of(model)
    batch.pop("mm_token_type_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    cached = model.generate(**batch, **options)
    assert cached.tolist() == model.generate(**batch, **options, use_cache=False).tolist()
    if hasattr(GenerationMixin, "_supports_mm_encoder_outputs"):  # older versions refuse images there
        one = {key: value[:1] for key, value in batch.items()}
        chunked = model.generate(**one, **options, prefill_chunk_size=5)
        assert chunked.tolist() == cached[:1].tolist()


@torch.no_grad()
def test_beams_of_a_batch_are_those_of_each_sample_alone() -> None:
    model = model_of()
    processor = fitting_processor(model)
    images = [[random_image(28, 27, seed=1), random_image(20, 50)], [random_image(9, 9)]]
    options: dict[str, Any] = {"max_new_tokens": 3, "num_beams": 3, "do_sample": False}
    together = processor(text=["<image> <image>", "<image>"], images=images, padding=True, return_tensors="pt")
    found = model.generate(**together, **options)[:, -3:].tolist()
    for row, (text, own) in enumerate(zip(["<image> <image>", "<image>"], images, strict=True)):
        alone = processor(text=[text], images=[own], return_tensors="pt")
        assert model.generate(**alone, **options)[0, -3:].tolist() == found[row]


def gradients(model: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    set_seed(0)
    model(**batch).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("injection", [None, ZERO], ids=["tokens", "zero"])
def test_checkpointed_layers_give_every_weight_the_same_gradient(injection: Any) -> None:
    model = model_of(injection).train()
    batch = batch_of(model, labels=True)
    expected = gradients(model, batch)
    assert set(expected) == {name for name, _ in model.named_parameters()}
    assert all(grad.abs().max() > 0 for name, grad in expected.items() if "injection" in name)
    for reentrant in (False, True):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        model.enable_input_require_grads()
        for name, gradient in gradients(model, batch).items():
            assert_close(gradient, expected[name], 1e-6)


@pytest.mark.parametrize("injection", [None, ZERO], ids=["tokens", "zero"])
def test_a_batch_of_text_gives_every_connector_a_gradient_of_zero(injection: Any) -> None:
    model = model_of(injection).train()
    found = gradients(model, {"input_ids": torch.arange(7, 22)[None], "labels": torch.arange(7, 22)[None]})
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert all(
        not grad.any() for name, grad in found.items() if "language_model" not in name and "lm_head" not in name
    )


def test_gates_start_a_model_as_the_one_without_streams() -> None:
    gated = {"type": "streams", "streams": STREAMS, "gate": True}
    model = FilaForConditionalGeneration(model_of(gated).config).eval()
    assert not model.model.injection.gates.any()
    plain = model_of({"type": "none"})
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "injection" not in key})
    batch = batch_of(model)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, plain(**batch).logits)
        model.model.injection.gates.fill_(0.5)
        assert not torch.equal(model(**batch).logits, plain(**batch).logits)


@torch.no_grad()
def test_copies_and_pickles_answer_alike() -> None:
    model = model_of()
    batch = batch_of(model)
    expected = model(**batch).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(**batch).logits, expected)
        other.model.injection.connectors[0].linear_1.weight.zero_()  # which does not touch the first
    assert torch.equal(model(**batch).logits, expected)


@pytest.mark.nightly
@torch.no_grad()
def test_a_compiled_model_answers_alike() -> None:
    model = model_of()
    batch = batch_of(model)
    expected = model(**batch).logits
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    assert_close(compiled(**batch).logits, expected, 1e-5)
    ids = torch.arange(7, 22)[None]
    assert_close(compiled(input_ids=ids).logits, model(input_ids=ids).logits, 1e-5)  # nothing is left in the layers


def test_adapters_of_the_connectors_reach_the_streams() -> None:
    model = model_of().train()
    adapted: Any = get_peft_model(model, lora_config(model, {"text", "connector"}, r=2))
    found = audit_lora(adapted, {"text", "connector"})
    assert sum("injection" in name for name in found["connector"]) == 6
    randomise(adapted, std=0.1)
    for name, gradient in gradients(adapted, batch_of(model, labels=True)).items():
        assert gradient.any(), name


@torch.no_grad()
def test_views_that_differ_in_size_have_streams_too() -> None:
    injection = {"type": "streams", "streams": [{"layer": 1, "before": 1}, {"layer": 3, "before": 0}]}
    model = model_of(injection, **single_tower())
    processor = fitting_processor(model, canvas=tiny_canvas("native"))
    processor.token_size = 7
    images = [random_image(20, 50), random_image(60, 20, seed=1)]
    both = processor(text=["<image>", "<image>"], images=[[one] for one in images], padding=True, return_tensors="pt")
    together = model.get_image_features(
        **{key: both[key] for key in both if "pixel" in key or "grid" in key or "box" in key}, return_dict=True
    )
    for number, image in enumerate(images):
        alone = processor(text=["<image>"], images=[[image]], return_tensors="pt")
        own = model.get_image_features(
            **{key: alone[key] for key in alone if "pixel" in key or "grid" in key or "box" in key}, return_dict=True
        )
        for found, expected in zip(together.deepstack_features, own.deepstack_features, strict=True):
            assert_close(found[number], expected[0], 1e-5)


@torch.no_grad()
def test_chunks_of_views_give_the_streams_of_all_at_once() -> None:
    model = model_of()
    inputs = image_inputs(batch_of(model))
    expected = model.get_image_features(**inputs, return_dict=True).deepstack_features
    model.model.views_per_chunk = 1
    found = model.get_image_features(**inputs, return_dict=True).deepstack_features
    for mine, reference in zip(found, expected, strict=True):
        assert_close(torch.cat(mine), torch.cat(reference), 1e-5)


@torch.no_grad()
def test_features_of_layers_are_transformers_hidden_states() -> None:
    model = model_of({"type": "none"}, **single_tower(vision_feature_layer=-1))
    tower = model.model.vision_tower
    pixels = torch.randn(1, 1, 3, 28, 28)
    boxes, grid = torch.tensor([[[0, 0, 28, 28]]]), torch.tensor([[1, 1]])
    found = tower(pixels, boxes, grid, feature_layers=[0, 3, 5, 3]).layer_features
    theirs = CLIPVisionModel(model.config.vision_config).eval()
    missing, extra = theirs.load_state_dict(tower.low_res_tower.state_dict(), strict=False)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in missing} == {"post_layernorm"}
    assert not extra
    states = theirs(pixels[0], output_hidden_states=True).hidden_states
    for layer, features in zip([0, 3, 5, 3], found, strict=True):
        assert_close(features, states[layer][:, 1:], 1e-5)


@each(
    ("injection", "changes", "message"),
    [
        ({"streams": []}, {}, "`injection.streams` must be a list with at least one stream"),
        ({"streams": [3]}, {}, r"`injection.streams\[0\]` must be a dict; got 3"),
        ({"streams": [{"layer": 1, "before": 0, "gate": 1}]}, {}, r"has no option \['gate'\]"),
        ({"streams": [{"layer": 1}]}, {}, "must have `before` and one of `layer` and `tap`"),
        ({"streams": [{"layer": 1, "before": 4}]}, {}, r"must be a layer of the language model, 0..3; got 4"),
        ({"streams": [{"layer": 1, "before": -1}]}, {}, r"must be a layer of the language model, 0..3; got -1"),
        ({"streams": [{"layer": 6, "before": 1}]}, {}, r"0 \(the embeddings\) to 5, or -6..-1 from the end; got 6"),
        ({"streams": [{"layer": -1, "before": 1}]}, {}, "only 4 are kept. Set `vision_feature_layer` to at least 5"),
        ({"streams": [{"tap": 5, "before": 1}]}, {}, "must be one of the 4 taps of fusion 'cvfm'"),
        (
            {"streams": [{"layer": 1, "before": 1}, {"layer": 2, "before": 1}]},
            {},
            r"`injection.streams\[1\]` and stream 0 are both added before layer 1",
        ),
        (
            {"streams": [{"layer": 1, "before": 1, "connector": {"type": "pixel_shuffle"}}]},
            {},
            r"`connector` 'mlp' makes 16 of a view, and that of `injection.streams\[0\]` makes 4",
        ),
        ({"streams": STREAMS, "input": "one"}, {}, "`injection.input` must be one of"),
        ({"streams": STREAMS, "depth": 1}, {}, r"Injection 'streams' has no option \['depth'\]"),
        ({"type": "deep"}, {}, "`injection.type` must be one of .*'streams'.*; got 'deep'"),
        ({"streams": STREAMS}, {"video_token_id": 3}, "`video_token_id` says that the model takes videos"),
        (ZERO | {"streams": [{"layer": 2, "before": 0}]}, {}, "Set `vision_feature_layer` to 2"),
        (
            ZERO | {"streams": [{"layer": 4, "before": 0}]},
            {"fusion": {"type": "channel_concat"}},
            "nothing reads the output of fusion 'channel_concat'.* Give a stream `layer` 'fusion'",
        ),
        (
            ZERO | {"streams": [{"layer": -1, "before": 0}]},
            single_tower(vision_config=low_res("siglip_vision_model"), vision_feature_layer=-1),
            "Set `norm` to false in the `tower_options`",
        ),
    ],
)
def test_injections_that_do_not_fit_are_refused(injection: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of({"type": "streams"} | injection, **changes)


def test_features_without_their_streams_are_refused() -> None:
    model = model_of()
    batch = batch_of(model)
    features = model.get_image_features(**image_inputs(batch), return_dict=True)
    bare = FilaImageFeatures(pooler_output=features.pooler_output)
    for wrong in (bare, FilaImageFeatures(pooler_output=features.pooler_output, deepstack_features=[[]] * 3)):
        with pytest.raises(ValueError, match="must hold 3 streams for `injection`"):
            model(input_ids=batch["input_ids"], mm_encoder_outputs={"image": wrong})


def test_an_engine_of_pooled_features_is_refused() -> None:
    model = model_of()
    model.config.text_config._attn_implementation = "vllm"
    with pytest.raises(ValueError, match="vllm asks a model of transformers for its pooled image features alone"):
        build_injection(model.config, model.model.vision_tower.fusion)


@pytest.mark.nightly
def test_layers_of_every_family_are_found_or_the_family_is_refused_by_name() -> None:
    refused = []
    for family in FAMILIES:
        language_model = AutoModel.from_config(tiny_text_config(family)).eval()
        try:
            extend_layers(language_model, [0])
        except ValueError as error:
            by_name = type(language_model).__name__ in str(error)
            refused.append(family if by_name else f"{family}, not by name")
    assert not [entry for entry in refused if "not by name" in entry]
    assert len(FAMILIES) - len(refused) > 80, refused


def test_a_language_model_without_a_list_of_layers_is_refused() -> None:
    language_model = model_of().model.language_model
    language_model.config.num_hidden_layers = 7
    with pytest.raises(
        ValueError, match="needs the list of the language model's 7 layers; LlamaModel has 0 such lists"
    ):
        decoder_layers(language_model)
