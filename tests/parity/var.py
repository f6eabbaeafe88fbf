# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VAR @ 78b9539: multi-scale quantiser, tokenizer, next-scale transformer, sampling filter."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fila.conversion.key_rules import Rule, apply_rules
from fila.conversion.rules_var import quantizer_rules
from fila.modeling.multi_scale_quantizer import FilaMultiScaleQuantizer, phi_index
from tests.parity.golden import Comparison, Golden, filled, read


def renamed(state: dict[str, torch.Tensor], rules: list[Rule]) -> dict[str, torch.Tensor]:
    """The weights under our names; leftovers raise."""
    plan = apply_rules(state, rules, name="the recorded state")
    return {move.target: state[move.source] for move in plan.moves}


def weights_of(golden: Golden, prefix: str = "sd/") -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in golden.tensors.items() if key.startswith(prefix)}


def num_phis(settings: dict[str, Any]) -> int:
    shared = settings["share_quant_resi"]
    return shared or settings.get("default_qresi_counts") or len(settings["v_patch_nums"])


def quantizer_of(golden: Golden) -> tuple[FilaMultiScaleQuantizer, dict[str, Any]]:
    settings = json.loads(golden.metadata["config"])
    quantizer = FilaMultiScaleQuantizer(
        settings["V"],
        settings["Cvae"],
        settings["v_patch_nums"],
        num_phis=num_phis(settings),
        phi_ratio=settings["quant_resi"],
        normalize_codes=settings["using_znorm"],
        commitment=settings.get("beta", 0.25),
    )
    state = renamed(weights_of(golden), quantizer_rules())
    quantizer.load_state_dict(state | {"hit_updates": quantizer.hit_updates})
    return quantizer.eval(), settings


def other_scales(golden: Golden, settings: dict[str, Any]) -> list[Any] | None:
    """Scales given for one call, where a file has them."""
    for values in (settings, golden.metadata):
        for key, value in values.items():
            if "override" in key or key in ("patch_nums", "patch_hws", "scales"):
                return json.loads(value) if isinstance(value, str) else value
    return None


def numbered(golden: Golden, name: str) -> list[torch.Tensor]:
    """`name_0`, `name_1` and so on."""
    found = []
    while f"{name}_{len(found)}" in golden:
        found.append(golden[f"{name}_{len(found)}"])
    return found


def quantizer(path: Path) -> Iterator[Comparison]:
    """Encoding, decoding at full and at own size, and what a predictor reads."""
    golden = read(path)
    ours, settings = quantizer_of(golden)
    scales = other_scales(golden, settings)
    ids, maps = ours.encode(golden["in/f"], patch_nums=scales)
    if "phi_index_per_scale" in golden.metadata:
        phis = [phi_index(scale, len(ids), num_phis(settings)) for scale in range(len(ids))]
        yield "phi", torch.tensor(phis), torch.tensor(json.loads(golden.metadata["phi_index_per_scale"]))
    full = ours.decode(ids, patch_nums=scales)
    own = ours.decode(ids, patch_nums=scales, full_size=False)
    steps: list[tuple[torch.Tensor, torch.Tensor]] = []
    for scale, found in enumerate(ids):
        codes = ours.embedding(found).transpose(1, 2).reshape(*own[scale].shape)
        steps.append(ours.next_scale_input(scale, steps[-1][0] if steps else None, codes, patch_nums=scales))
    for name, values in (
        ("idx", ids),
        ("fhat", maps),
        ("embed_to_fhat_max", full),
        ("embed_to_fhat_own", own),
        ("next_fhat", [step[0] for step in steps]),
        ("next_input", [step[1] for step in steps]),
    ):
        recorded = numbered(golden, f"out/{name}")
        for scale, (mine, theirs) in enumerate(zip(values, recorded, strict=bool(recorded))):
            yield f"{name}_{scale}", mine, theirs
    for name, value in (("embed_to_fhat_max_last", full[-1]), ("embed_to_fhat_own_last", own[-1])):
        if f"out/{name}" in golden:
            yield name, value, golden[f"out/{name}"]
    if "out/var_input" in golden:
        yield "var_input", ours.next_scale_inputs(ids, patch_nums=scales), golden["out/var_input"]


@torch.enable_grad()
def training(path: Path) -> Iterator[Comparison]:
    """The training loss, the straight-through map, and the gradient of every weight and of the input."""
    golden = read(path)
    ours, settings = quantizer_of(golden)  # in evaluation: the file was recorded without counting hits
    features = golden["in/f"].clone().requires_grad_()
    result = ours(features)
    ((result.features * golden["in/w"]).sum() + result.loss).backward()
    yield "fhat", result.features.detach(), golden["out/fhat"]
    yield "loss", result.loss.detach()[None], golden["out/loss"]
    usage = ours.usage(features[:, 0].numel()) * 100
    yield "usages", usage.double(), golden["out/usages"].double()
    yield "grad_f", features.grad, golden["out/grad_f"]
    ours_by_name = dict(ours.named_parameters())
    for key, value in renamed(weights_of(golden, "out/grad/"), quantizer_rules()).items():
        yield f"grad {key}", ours_by_name[key].grad, value


def hits(path: Path) -> Iterator[Comparison]:
    """The decaying mean of hits over steps, of which some are recorded."""
    golden = read(path)
    ours, settings = quantizer_of(golden)
    ours.train()
    ours.code_hits.zero_()  # the recorded state is that of the last step
    shape = golden["in/f_0"].shape
    for step in range(1 + max(int(key.rpartition("_")[2]) for key in golden.tensors if key.startswith("out/ema_"))):
        inputs = golden.tensors.get(f"in/f_{step}", filled(f"ema.f{step}", shape, 2.0))
        ours(inputs)
        if f"out/ema_{step}" in golden:
            yield f"ema_{step}", ours.code_hits.clone(), golden[f"out/ema_{step}"]
            yield f"record_hit_{step}", ours.hit_updates[None].clone(), golden[f"out/record_hit_{step}"]
            usage = ours.usage(inputs[:, 0].numel()) * 100
            yield f"usages_{step}", usage, golden[f"out/usages_{step}"]
