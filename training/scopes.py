# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Scopes for LoRA and bitsandbytes: configs that choose modules, and audits of the resulting model.

Both libraries choose modules by name patterns, and a wrong pattern raises no error: `["q_proj"]` adapts the low-res
tower too, and transformers ignores the skip list `["vision_tower"]` of a quantisation and then quantises the head as
well. So this module builds the patterns from the module tree, and the audits inspect the resulting model.

Scopes: `text` (the language model), `connector` (those of the injection too), `fusion`, `low_res` and `high_res` (the
towers; `high_res` all of them), `lm_head`.
"""

import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

LORA_SCOPES = ("text", "connector", "fusion", "low_res", "high_res")
SCOPES = (*LORA_SCOPES, "lm_head")
KEPT = frozenset({"connector", "fusion", "low_res", "high_res", "lm_head"})
Layers = dict[str, list[str]]  # names of linear layers by scope


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside a `PeftModel`."""
    found: nn.Module = cast(Any, model).get_base_model() if hasattr(model, "get_base_model") else model
    return found


def _unadapted(layer: nn.Module) -> nn.Module:
    """Return the base layer of an adapter, or the layer itself."""
    found: nn.Module = cast(Any, layer).get_base_layer() if hasattr(layer, "get_base_layer") else layer
    return found


def _roots(model: nn.Module) -> dict[str, list[str]]:
    """Return the module names of a model's scopes, without scopes that the model does not have."""
    base: Any = getattr(model, "model", model)
    encoder = base.vision_tower
    roots: dict[str, list[nn.Module | None]] = {
        "text": [base.language_model],
        "connector": [base.multi_modal_projector, base.injection],
        "fusion": [encoder.fusion],
        "low_res": [encoder.low_res_tower],
        "high_res": [encoder.high_res_tower, *encoder.extra_towers],
        "lm_head": [getattr(model, "lm_head", None)],
    }
    names = {module: name for name, module in model.named_modules()}
    found = {scope: [names[root] for root in inside if root is not None] for scope, inside in roots.items()}
    return {scope: inside for scope, inside in found.items() if inside}


def _linear_layers(model: nn.Module, chosen: Callable[[nn.Module], bool] = lambda layer: True) -> Layers:
    """Return a model's linear layers by scope, without those inside adapters; an adapted layer counts as one."""
    names = []

    def visit(name: str, module: nn.Module) -> None:
        layer = _unadapted(module)
        if isinstance(layer, nn.Linear) or layer is not module:  # or another kind of layer with an adapter
            if chosen(module):
                names.append(name)
            return
        for child, inner in module.named_children():
            visit(f"{name}.{child}" if name else child, inner)

    visit("", model)
    roots = _roots(model)
    found = {
        scope: [name for name in names if any(name == root or name.startswith(f"{root}.") for root in inside)]
        for scope, inside in roots.items()
    }
    found["elsewhere"] = sorted(set(names) - {name for inside in found.values() for name in inside})
    return {scope: inside for scope, inside in found.items() if inside}


def _checked(scopes: Collection[str], known: Collection[str], model: nn.Module) -> set[str]:
    """Check scopes and return them as a set.

    Raises:
        ValueError: If no scope is given, one is unknown, or the model does not have one.
    """
    asked = {scopes} if isinstance(scopes, str) else set(scopes)
    if not asked or asked - set(known):
        raise ValueError(f"The scopes must be some of {list(known)}; got {sorted(asked)}.")
    if absent := asked - set(_linear_layers(model)):
        raise ValueError(f"This model has no linear layer in the scope {sorted(absent)}; remove it.")
    return asked


def _targets(model: nn.Module, scope: Collection[str], layers: Collection[str] | None) -> Layers:
    """Return the linear layers for LoRA to adapt."""
    found = _linear_layers(model)
    targets = {name: found[name] for name in LORA_SCOPES if name in _checked(scope, LORA_SCOPES, model)}
    if layers is None:
        return targets
    if unknown := set(layers) - {name.rpartition(".")[2] for inside in targets.values() for name in inside}:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.conv._ConvNd) and name.rpartition(".")[2] in unknown:
                last = name.rpartition(".")[2]
                raise ValueError(f"{last!r} of {name} is a convolution; `lora_config` adapts linear layers alone.")
        raise ValueError(f"The scopes {sorted(targets)} have no linear layer named {sorted(unknown)}.")
    return {name: [it for it in inside if it.rpartition(".")[2] in layers] for name, inside in targets.items()}


def _compare(what: str, actual: Layers, expected: Layers) -> Layers:
    """Return `actual` without empty scopes if it equals `expected`.

    Raises:
        ValueError: If they differ; names the layers by scope.
    """
    wrong = []
    for scope in (*SCOPES, "elsewhere"):
        for kind, one, other in (("not", expected, actual), ("", actual, expected)):
            if names := sorted(set(one.get(scope, [])) - set(other.get(scope, []))):
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                wrong.append(f"{len(names)} layers of {scope!r} are {kind} {what}: {shown}".replace("  ", " "))
    if wrong:
        raise ValueError(
            f"The {what} layers are not the expected ones. {'; '.join(wrong)}. Make the settings with "
            "fila.training.scopes, which spells out full names, or pass the audit what was meant."
        )
    return {scope: names for scope, names in actual.items() if names}


def lora_config(
    model: nn.Module, scope: Collection[str], *, layers: Collection[str] | None = None, **kwargs: Any
) -> "LoraConfig":
    r"""Return a `LoraConfig` of PEFT that adapts the linear layers of the given scopes and no others.

    Args:
        model: The model that will be adapted.
        scope: Some of `text`, `connector`, `fusion`, `low_res`, `high_res`.
        layers: Last names of the layers to adapt, such as `["q_proj", "v_proj"]`; all linear layers by default.
        **kwargs: Other settings of `LoraConfig`, such as `r` and `lora_alpha`.

    Returns:
        The config; its `target_modules` is a regular expression of full names, with `\d+` for layer numbers.

    Raises:
        ValueError: If a scope or a layer is unknown or missing from the model, or `target_modules` is given.
    """
    from peft import LoraConfig

    if "target_modules" in kwargs:
        raise ValueError("`scope` and `layers` say what LoRA adapts; `target_modules` cannot be given beside them.")
    targets = _targets(model, scope, layers)
    names = [name for inside in targets.values() for name in inside]
    patterns = {re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", re.escape(name)) for name in names}
    pattern = "|".join(sorted(patterns))
    matched = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    assert sorted(matched) == sorted(names), "the pattern covers other modules than it was made from"
    return LoraConfig(target_modules=pattern, **kwargs)


def with_adapters(model: PreTrainedModel, scope: Collection[str], *, rank: int = 16, **kwargs: Any) -> Any:
    """Return a `PeftModel` with LoRA adapters in the given scopes, checked; of the model they alone train.

    Args:
        model: The model, in 4 bits or not.
        scope: As in `lora_config`.
        rank: Rank of the adapters; `lora_alpha` is twice as much if not given.
        **kwargs: Other settings of `LoraConfig`.

    Raises:
        ValueError: As `lora_config` and `audit_lora`.
    """
    from peft import get_peft_model

    config = lora_config(model, scope, r=rank, **({"lora_alpha": 2 * rank} | kwargs))
    adapted = get_peft_model(model, config)
    audit_lora(adapted, scope)
    return adapted


def audit_lora(model: nn.Module, scope: Collection[str], *, layers: Collection[str] | None = None) -> Layers:
    """List the adapted layers, and check that they are the intended ones.

    Args:
        model: The `PeftModel`, or the model with adapters inside.
        scope: The intended scopes.
        layers: As in `lora_config`.

    Returns:
        Names of the adapted layers by scope.

    Raises:
        ValueError: If the adapted layers are not exactly the intended ones; names the differing layers by scope.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = _unwrapped(model)
    actual = _linear_layers(model, lambda layer: isinstance(layer, BaseTunerLayer))
    return _compare("adapted", actual, _targets(model, scope, layers))


def bnb_config(
    model_or_config: FilaForConditionalGeneration | FilaConfig,
    bits: int = 4,
    keep: Collection[str] = KEPT,
    **kwargs: Any,
) -> "BitsAndBytesConfig":
    """Return a `BitsAndBytesConfig` that quantises the linear layers of all scopes except `keep`.

    Args:
        model_or_config: The model's config, or a model of the class that will be loaded.
        bits: 4 (NF4 with double quantisation) or 8 (LLM.int8).
        keep: Scopes that are not quantised: all but `text` by default. A scope that the model does not have is
            ignored.
        **kwargs: Other settings of `BitsAndBytesConfig`.

    Returns:
        The config; pass it to `from_pretrained` as `quantization_config`, then call `audit_bnb`.

    Raises:
        ValueError: If `bits` or a scope is unknown, if nothing would be quantised, if the head shares its weight with
            the embedding and is not kept, or if a skip list is given.
    """
    from transformers import BitsAndBytesConfig

    if bits not in (4, 8):
        raise ValueError(f"`bits` must be 4 or 8; got {bits!r}.")
    if "llm_int8_skip_modules" in kwargs:
        raise ValueError("`keep` says what is not quantised; `llm_int8_skip_modules` cannot be given beside it.")
    model = model_or_config
    if not isinstance(model, nn.Module):
        with torch.device("meta"):
            model = FilaForConditionalGeneration(model)
    _quantised_scopes(model, keep)
    skipped = [root for scope, inside in _roots(model).items() if scope in keep for root in inside]
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped, **kwargs)
    four_bit = {
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    return BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=skipped, **(four_bit | kwargs))


def _quantised_scopes(model: nn.Module, keep: Collection[str]) -> Layers:
    """Return the linear layers of the scopes that are not kept."""
    if unknown := set(keep) - set(SCOPES):
        raise ValueError(f"The scopes to keep must be some of {list(SCOPES)}; got {sorted(unknown)}.")
    quantised = {scope: names for scope, names in _linear_layers(model).items() if scope not in keep}
    if not quantised:
        raise ValueError("Every scope is kept, so nothing would be quantised; leave `text` out of `keep`.")
    if "lm_head" in quantised and cast(PreTrainedModel, model).config.tie_word_embeddings:
        raise ValueError("The head shares its weight with the embedding and cannot be quantised; keep `lm_head`.")
    return quantised


def audit_bnb(model: nn.Module, keep: Collection[str] = KEPT) -> Layers:
    """List the layers that bitsandbytes quantised, and check that they are the intended ones.

    Args:
        model: The loaded model, with adapters or without.
        keep: The scopes that must not be quantised.

    Returns:
        Names of the quantised layers by scope.

    Raises:
        ValueError: If they are not exactly the linear layers of the other scopes; names the others by scope.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt  # type: ignore[attr-defined]

    def is_quantised(layer: nn.Module) -> bool:
        return isinstance(_unadapted(layer), Linear4bit | Linear8bitLt)

    model = _unwrapped(model)
    return _compare("quantised", _linear_layers(model, is_quantised), _quantised_scopes(model, keep))
