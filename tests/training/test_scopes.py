# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""LoRA and bitsandbytes touch the layers that were meant and no others, and the audits notice when they do not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import BitsAndBytesConfig

from fila import FilaForConditionalGeneration, FilaModel
from fila.training.scopes import KEPT, LORA_SCOPES, audit_bnb, audit_lora, bnb_config, lora_config, with_adapters
from tests.helpers import assert_close, random_image, single_tower, tiny_config, tiny_model, tiny_processor
from tests.modeling.tiny_towers import HIGH_RES, LOW_RES, high_res, low_res

# peft 0.21 calls transformers' old names of activation checkpointing; goes when peft calls the new ones
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")

DOCS = Path(__file__).parents[2] / "docs" / "training_scale.md"
PREFIXES = {
    "text": "model.language_model.",
    "connector": "model.multi_modal_projector.",
    "fusion": "model.vision_tower.fusion.",
    "low_res": "model.vision_tower.low_res_tower.",
    "high_res": "model.vision_tower.high_res_tower.",
    "lm_head": "lm_head",
}
COUNTS = {"text": 14, "connector": 2, "fusion": 8, "low_res": 24, "high_res": 10, "lm_head": 1}


def linear(*scopes: str) -> set[str]:
    """Names of the linear layers of some scopes, found by prefix."""
    names = {name for name, module in tiny_model().named_modules() if isinstance(module, nn.Linear)}
    found = {name for name in names if name.startswith(tuple(PREFIXES[scope] for scope in scopes))}
    assert len(found) == sum(COUNTS[scope] for scope in scopes)
    return found


def batch() -> dict[str, torch.Tensor]:
    inputs = tiny_processor()(text=["<image> a"], images=[[random_image(90, 91)]], return_tensors="pt")
    return dict(inputs) | {"labels": inputs["input_ids"]}


def adapters(model: Any) -> set[str]:
    """Names of the modules that have an adapter, read from the names of its weights."""
    names = (name.partition(".lora_A.") for name, _ in model.named_parameters())
    return {before.removeprefix("base_model.model.") for before, middle, _ in names if middle}


def adapted(scope: Any, **kwargs: Any) -> Any:
    """A model with random adapters."""
    model = tiny_model()
    model = get_peft_model(model, lora_config(model, scope, r=3, **kwargs))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.mark.parametrize(
    "scope",
    [*({name} for name in LORA_SCOPES), {"text", "connector"}, {"fusion", "connector", "high_res"}, set(LORA_SCOPES)],
    ids=lambda scope: "+".join(sorted(scope)),
)
def test_lora_adapts_every_linear_layer_of_the_scopes_and_nothing_else(scope: set[str]) -> None:
    model = adapted(scope)
    assert adapters(model) == linear(*scope)
    for audited in (model, model.get_base_model()):
        found = audit_lora(audited, scope)
        assert {name for names in found.values() for name in names} == linear(*scope)
        assert set(found) == scope
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * len(linear(*scope))


def test_lora_can_be_limited_to_layers_by_their_last_name() -> None:
    model = adapted("text", layers=["q_proj", "v_proj"])
    expected = {name for name in linear("text") if name.endswith(("q_proj", "v_proj"))}
    assert adapters(model) == expected
    assert audit_lora(model, "text", layers=["q_proj", "v_proj"]) == {"text": sorted(expected)}


def test_lora_fits_the_model_without_head_and_the_single_tower() -> None:
    base = FilaModel(tiny_config(**single_tower()))
    model = get_peft_model(base, lora_config(base, {"text", "low_res"}))
    assert adapters(model) == {name.removeprefix("model.") for name in linear("text", "low_res")}


TOWERS = [
    *(("low_res", name, {"vision_config": low_res(name)}) for name in LOW_RES),
    *(("high_res", name, {"high_res_vision_config": high_res(name)}) for name in HIGH_RES),
    *(("high_res", f"extra {name}", {"extra_vision_configs": [high_res(name)]}) for name in HIGH_RES),
]


# torch's, of a frozen tower: older transformers checkpoint its blocks although no graph is recorded
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non-reentrant"])
@pytest.mark.parametrize(("scope", "tower", "settings"), TOWERS, ids=[f"{scope}-{name}" for scope, name, _ in TOWERS])
def test_checkpointing_leaves_every_adapter_of_every_tower_its_gradient(
    scope: str, tower: str, settings: dict[str, Any], reentrant: bool
) -> None:
    model = tiny_model(fusion={"type": "channel_concat"}, high_res_tile_size=128, **settings)
    # transformers 5.23 renamed it
    switch = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    switch({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model = get_peft_model(model, lora_config(model, scope, r=2, init_lora_weights="gaussian")).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    model(**batch()).loss.backward()
    silent = [
        name for name, weight in model.named_parameters() if weight.requires_grad and not torch.any(weight.grad != 0)
    ]
    assert silent == []


def test_merged_adapters_answer_alike_and_saved_ones_load_again(tmp_path: Path) -> None:
    model, inputs = adapted(LORA_SCOPES).eval(), batch()
    with torch.no_grad():
        expected = model(**inputs).logits
        assert (expected - tiny_model()(**inputs).logits).abs().max() > 0.1
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
        assert audit_lora(loaded, LORA_SCOPES)
        assert_close(loaded(**inputs).logits, expected)
        # float32: W x + B A x against (W + B A) x; measured 8e-6
        assert_close(model.merge_and_unload()(**inputs).logits, expected, 5e-5)


def test_audit_names_adapters_that_were_not_meant() -> None:
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj", "v_proj"]))
    with pytest.raises(ValueError, match=r"10 layers of 'text' are not adapted.*8 layers of 'low_res' are adapted"):
        audit_lora(model, {"text"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scope": {"llm"}}, r"must be some of .*'high_res'.*; got \['llm'\]"),
        ({"scope": {"lm_head"}}, r"must be some of"),
        ({"scope": set()}, r"must be some of .*; got \[\]"),
        ({"scope": {"text"}, "layers": ["c_attn"]}, r"\['text'\] have no linear layer named \['c_attn'\]"),
        ({"scope": {"text"}, "target_modules": ["q_proj"]}, r"`target_modules` cannot be given"),
    ],
)
def test_lora_config_rejects_what_it_does_not_know(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lora_config(tiny_model(), **arguments)


@pytest.mark.parametrize("layer", ["patch_embeddings", "1", "dwconv"])
def test_lora_config_refuses_convolutions(layer: str) -> None:
    with pytest.raises(ValueError, match=f"'{layer}'.*is a convolution.*linear layers alone"):
        lora_config(tiny_model(), {"high_res"}, layers=[layer])


@pytest.mark.parametrize(
    "layer", ["high_res_tower.embeddings.patch_embeddings", "high_res_tower.encoder.stages.1.downsampling_layer.1"]
)
def test_adapter_on_a_convolution_of_the_convnext_is_refused(layer: str) -> None:
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=[f"model.vision_tower.{layer}"], r=2))
    with pytest.raises(ValueError, match=r"convolution of a ConvNeXt tower.*linear layers instead.*lora_config"):
        model(**batch())


def test_audit_names_an_adapter_on_a_convolution() -> None:
    name = "model.vision_tower.low_res_tower.embeddings.patch_embedding"
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=["q_proj", name]))
    with pytest.raises(ValueError, match=rf"layers of 'low_res' are adapted: {name}"):
        audit_lora(model, {"text"}, layers=["q_proj"])


def test_lora_config_names_the_scope_that_a_model_lacks() -> None:
    with pytest.raises(ValueError, match=r"no linear layer in the scope \['fusion', 'high_res'\]"):
        lora_config(tiny_model(**single_tower()), LORA_SCOPES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Let bitsandbytes not compile its CPU kernels, which takes longer than all tests."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def load(checkpoint: Path, config: BitsAndBytesConfig) -> Any:
    model = FilaForConditionalGeneration.from_pretrained(checkpoint, quantization_config=config, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # on CPUs with AVX512-BF16 it would pack weights in blocks of 32 rows, which tiny layers do not fill
            module.support_avx512bf16_for_cpu = False
    return model


def settings(bits: int, keep: Any = KEPT) -> BitsAndBytesConfig:
    return bnb_config(tiny_config(), bits, keep, **({"bnb_4bit_compute_dtype": torch.float32} if bits == 4 else {}))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "keep",
    [KEPT, {"lm_head"}, KEPT - {"lm_head"}, {"text", "low_res", "connector"}],
    ids=lambda keep: "+".join(sorted(keep)),
)
def test_quantised_layers_are_those_of_the_other_scopes(bits: int, keep: set[str], checkpoint: Path) -> None:
    model = load(checkpoint, settings(bits, keep))
    quantised = {name for name, module in model.named_modules() if type(module).__module__.startswith("bitsandbytes")}
    assert quantised == linear(*(set(PREFIXES) - set(keep)))
    assert {name for names in audit_bnb(model, keep).values() for name in names} == quantised


@pytest.mark.parametrize(
    ("skipped", "message"),
    [
        pytest.param(None, r"24 layers of 'low_res' are quantised", id="nothing"),
        pytest.param(
            ["vision_tower", "multi_modal_projector", "lm_head"],
            r"2 layers of 'connector' are quantised.*24 layers of 'low_res' are quantised",
            id="short",
        ),
        pytest.param(
            ["model.vision_tower", "model.multi_modal_projector"],
            r"1 layers of 'lm_head' are quantised",
            id="headless",
        ),
        pytest.param(["model.vision_tower", "model.multi_modal_projector", "lm_head"], None, id="long"),
        pytest.param([r"model\.(vision_tower|multi_modal_projector)\..*", "lm_head"], None, id="regex"),
        pytest.param(["model", "lm_head"], r"14 layers of 'text' are not quantised", id="too-much"),
    ],
)
def test_audit_holds_for_every_spelling_of_a_skip_list(
    skipped: list[str] | None, message: str | None, checkpoint: Path
) -> None:
    model = load(checkpoint, BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=skipped))
    if message is None:
        assert set(audit_bnb(model)) == {"text"}
    else:
        with pytest.raises(ValueError, match=message):
            audit_bnb(model)


@pytest.mark.parametrize(("bits", "bound"), [(4, 0.2), (8, 0.017)])
def test_kept_vision_keeps_the_logits_near_and_quantised_vision_does_not(
    bits: int, bound: float, checkpoint: Path
) -> None:
    inputs = batch()
    errors = []
    with torch.no_grad():
        expected = tiny_model()(**inputs).logits
        for keep in (KEPT, {"lm_head"}):
            logits = load(checkpoint, settings(bits, keep))(**inputs).logits
            errors.append(((logits - expected).norm() / expected.norm()).item())
    # measured, relative: 0.106 and 0.307 with 4 bits, 0.0123 and 0.0217 with 8
    assert errors[0] < bound < errors[1]


@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_step_changes_the_adapters_and_nothing_else(bits: int, checkpoint: Path) -> None:
    model = load(checkpoint, settings(bits))
    model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    model = get_peft_model(model, lora_config(model, {"text", "connector"}, r=3)).train()
    assert set(audit_bnb(model)) == {"text"}
    assert set(audit_lora(model, {"text", "connector"})) == {"text", "connector"}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**batch()).loss.backward()
    optimiser.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    # A starts random and B at zero, so the first step moves B alone
    assert changed == {name for name in before if ".lora_B." in name}
    assert len(changed) == len(linear("text", "connector"))


@pytest.mark.filterwarnings("ignore:torch.utils.checkpoint. the use_reentrant:UserWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
@pytest.mark.parametrize("scope", [{"text"}, {"low_res", "connector"}], ids=lambda scope: "+".join(sorted(scope)))
def test_prepared_as_peft_does_by_default_every_adapter_has_the_same_gradient(
    scope: set[str], checkpoint: Path
) -> None:
    """PEFT's default is reentrant checkpointing, which loses gradients behind inputs that need none."""
    found = []
    for options in (None, {"use_reentrant": False}):
        model = prepare_model_for_kbit_training(load(checkpoint, settings(4)), gradient_checkpointing_kwargs=options)
        torch.manual_seed(0)
        model = get_peft_model(model, lora_config(model, scope, r=3, init_lora_weights=False)).train()
        model(**batch()).loss.backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    assert found[0]
    for name, gradient in found[0].items():
        assert gradient is not None, name
        assert_close(gradient, found[1][name])


def test_without_target_modules_peft_adapts_the_attention_of_the_language_model_alone() -> None:
    model = get_peft_model(tiny_model(), LoraConfig(r=3))
    assert audit_lora(model, {"text"}, layers=["q_proj", "v_proj"]).keys() == {"text"}
    assert len(adapters(get_peft_model(FilaModel(tiny_config()), LoraConfig(r=3)))) == len(adapters(model))


def test_with_adapters_they_alone_train() -> None:
    model = with_adapters(tiny_model(), ["text", "connector"], rank=3)
    assert model.peft_config["default"].lora_alpha == 6
    assert {"lora_A" in name or "lora_B" in name for name, p in model.named_parameters() if p.requires_grad} == {True}


def test_examples_of_the_docs_run(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my-checkpoint").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        names["model"].train()(**batch()).loss.backward()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 2}, r"`bits` must be 4 or 8; got 2"),
        ({"keep": {"vision_tower"}}, r"must be some of .*; got \['vision_tower'\]"),
        ({"keep": set(PREFIXES)}, r"nothing would be quantised"),
        ({"llm_int8_skip_modules": ["lm_head"]}, r"`llm_int8_skip_modules` cannot be given"),
    ],
)
def test_bnb_config_rejects_what_it_does_not_know(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bnb_config(tiny_config(), **arguments)


def test_bnb_config_never_quantises_a_tied_head() -> None:
    config = tiny_config(text_config=tiny_config().text_config.to_dict() | {"tie_word_embeddings": True})
    assert "lm_head" in bnb_config(config).llm_int8_skip_modules
    with pytest.raises(ValueError, match="shares its weight with the embedding"):
        bnb_config(config, keep={"connector"})
