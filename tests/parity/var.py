# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VAR @ 78b9539: multi-scale quantiser, tokenizer, next-scale transformer, sampling filter."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fila.conversion import import_var
from fila.conversion.key_rules import Rule, apply_rules
from fila.conversion.rules_var import quantizer_rules, tokenizer_rules, transformer_rules
from fila.modeling.configuration_var import VarConfig, VarVQConfig
from fila.modeling.modeling_var import VarForImageGeneration
from fila.modeling.modeling_var_vq import VarVQModel
from fila.modeling.var_quantizer import FilaMultiScaleQuantizer, phi_index, scale_grids
from fila.modeling.var_sampling import filtered_logits
from tests.parity.golden import Comparison, Golden, filled, read


def renamed(state: dict[str, torch.Tensor], rules: list[Rule]) -> dict[str, torch.Tensor]:
    """The weights under our names; leftovers raise."""
    plan = apply_rules(state, rules, name="the recorded state")
    return {move.target: state[move.source] for move in plan.moves}


def weights_of(golden: Golden, prefix: str = "sd/") -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): golden[key] for key in golden.tensors if key.startswith(prefix)}


def scales_of(settings: dict[str, Any]) -> list[int]:
    return list(settings.get("v_patch_nums") or settings.get("patch_nums") or [1])


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def num_phis(settings: dict[str, Any]) -> int:
    shared = settings.get("share_quant_resi", 4)
    return shared or settings.get("default_qresi_counts") or len(scales_of(settings))


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
    if state["code_hits"].shape != quantizer.code_hits.shape:  # the source replaces its buffer, too
        state["code_hits"] = quantizer.code_hits
    quantizer.load_state_dict(state | {"hit_updates": quantizer.hit_updates})
    return quantizer.eval(), settings


def lists_in(text: str) -> Iterator[list[Any]]:
    """Every list of numbers, or of pairs of them, that a text holds."""
    for match in re.findall(r"[\[(][\d\[\](), ]*[\])]", text):
        try:
            yield json.loads(match.replace("(", "[").replace(")", "]"))
        except json.JSONDecodeError:  # brackets of prose
            continue


def other_scales(golden: Golden, settings: dict[str, Any]) -> list[Any] | None:
    """The scales of a file whose ids are not those of its quantiser's own scales; None where they are.

    They are the list in the metadata that gives as many ids as are recorded, whatever its name.
    """
    lengths = [ids.shape[1] for ids in numbered(golden, "out/idx").values()]
    last = tuple(golden["in/f"].shape[-2:])
    for scales in (scales_of(settings), *(found for text in golden.metadata.values() for found in lists_in(text))):
        grids = scale_grids(scales) if scales and min(torch.tensor(scales).flatten().tolist()) > 0 else []
        if grids and grids[-1] == last and [rows * cols for rows, cols in grids] == lengths:
            return None if scales == scales_of(settings) else scales
    assert not lengths, f"no list of the metadata gives {lengths} ids and ends in {last}"
    return None


def numbered(golden: Golden, name: str) -> dict[int, torch.Tensor]:
    """`name_0`, `name_1` and so on by their number, whatever the first; not every file records every scale."""
    pattern = re.compile(rf"{re.escape(name)}_(\d+)")
    found = {int(match[1]): match[0] for match in map(pattern.fullmatch, golden.tensors) if match}
    return {number: golden[found[number]] for number in sorted(found)}


def scale_of(number: int, name: str, recorded: dict[int, torch.Tensor], num_scales: int) -> int:
    """The scale of a recorded number: the number itself, or its place among all where scales count from another."""
    if max(recorded) < num_scales:
        return number
    assert len(recorded) == num_scales, f"{name}: numbers {list(recorded)} for {num_scales} scales"
    return list(recorded).index(number)


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
        for number, theirs in recorded.items():
            yield f"{name}_{number}", values[scale_of(number, name, recorded, len(values))], theirs
    assert numbered(golden, "out/idx"), "no ids are recorded"
    for name, value in (("embed_to_fhat_max_last", full[-1]), ("embed_to_fhat_own_last", own[-1])):
        if f"out/{name}" in golden:
            yield name, value, golden[f"out/{name}"]
    if "out/var_input" in golden:
        yield "var_input", ours.next_scale_inputs(ids, patch_nums=scales), golden["out/var_input"]


@torch.enable_grad()
def training(path: Path) -> Iterator[Comparison]:
    """The training loss, the straight-through map, and the gradient of every weight and of the input."""
    golden = read(path)
    ours, _ = quantizer_of(golden)  # in evaluation: the file was recorded without counting hits
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
    ours, _ = quantizer_of(golden)
    ours.train()
    ours.code_hits.zero_()  # the recorded state is that of the last step
    shape = golden[min(key for key in golden.tensors if key.startswith("in/f_"))].shape
    for step in range(1 + max(int(key.rpartition("_")[2]) for key in golden.tensors if key.startswith("out/ema_"))):
        inputs = golden.tensors.get(f"in/f_{step}", filled(f"ema.f{step}", shape, 2.0))
        ours(inputs)
        if f"out/ema_{step}" in golden:
            yield f"ema_{step}", ours.code_hits.clone(), golden[f"out/ema_{step}"]
            yield f"record_hit_{step}", ours.hit_updates[None].clone(), golden[f"out/record_hit_{step}"]
            usage = ours.usage(inputs[:, 0].numel()) * 100
            yield f"usages_{step}", usage, golden[f"out/usages_{step}"]


def recipe_weights(shapes: dict[str, list[int]], *, drop: str = "", embedding_std: float = 1.0) -> dict[str, Any]:
    """Weights as the recordings fill them; `drop` is what the name of a key lacks in its seed."""
    found = {}
    for key, shape in shapes.items():
        name = key.removeprefix(drop)
        is_norm = re.search(r"(^|\.)norm[^.]*\.", key) is not None
        if "embedding" in key or "embed" in key:
            found[key] = filled(name, shape, embedding_std)
        elif key.endswith("weight") and len(shape) >= 2:
            fan_in = torch.Size(shape[1:]).numel()
            found[key] = filled(name, shape, fan_in**-0.5)
        elif key.endswith("weight") and is_norm:
            found[key] = filled(name, shape, 0.2, 1.0)
        else:
            found[key] = filled(name, shape, 0.1)
    return found


def tokenizer_config(settings: dict[str, Any], latent: int) -> VarVQConfig:
    """The config of a recorded tokenizer; `latent` is the channels of its codes."""
    multipliers = list(settings.get("ch_mult", (1, 1, 2, 2, 4)))
    scales = scales_of(settings)
    return VarVQConfig(
        image_size=scales[-1] * 2 ** (len(multipliers) - 1),
        base_channels=settings["ch"],
        channel_multipliers=multipliers,
        num_res_blocks=settings.get("num_res_blocks", 2),
        attention_in_last_level=settings.get("using_sa", True),
        attention_in_middle=settings.get("using_mid_sa", True),
        codebook_size=settings.get("V", settings.get("vocab_size", 5)),
        code_size=latent,
        patch_nums=scales,
        num_phis=num_phis(settings),
        phi_ratio=settings.get("quant_resi", 0.5),
        normalize_codes=settings.get("using_znorm", False),
        commitment=settings.get("beta", 0.25),
    )


def load_tokenizer(model: VarVQModel, state: dict[str, torch.Tensor], *, partly: bool = False) -> VarVQModel:
    weights = renamed(state, tokenizer_rules())
    missing, left = model.load_state_dict(weights, strict=False)
    parts = ("quant_conv.", "post_quant_conv.", "quantize.")
    assert not left
    assert all(key == "quantize.hit_updates" or (partly and key.startswith(parts)) for key in missing)
    return model.eval()


def autoencoder(path: Path) -> Iterator[Comparison]:
    """Encoder and decoder, stages of them, and sides that differ."""
    golden = read(path)
    settings = json.loads(golden.metadata["config"])
    state = weights_of(golden)
    for half in ("encoder", "decoder"):  # our copy of the file keeps the shapes alone
        if f"{half}.conv_in.weight" not in state:
            shapes = json.loads(golden.metadata["keys_shapes"])
            shapes = {key: shape for key, shape in shapes.items() if key.startswith(half)}
            state |= recipe_weights(shapes, drop=f"{half}.")
    model = VarVQModel(tokenizer_config(settings, settings["z_channels"]))
    load_tokenizer(model, state, partly=True)
    stages = {
        "enc_conv_in": model.encoder.conv_in,
        "enc_down0_block0": model.encoder.down[0].block[0],
        "enc_down0_downsample": model.encoder.down[0].downsample,
        "dec_conv_in": model.decoder.conv_in,
        "dec_mid_block1": model.decoder.mid.block_1,
        "dec_mid_attn1": model.decoder.mid.attn_1,
    }
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        stage.register_forward_hook(lambda module, args, output, name=name: seen.__setitem__(name, output))
        for name, stage in stages.items()
    ]
    model.encoder(golden["in/x"])
    model.decoder(golden["in/z"])
    for hook in hooks:
        hook.remove()
    for name, value in seen.items():
        if f"mid/{name}" in golden:
            yield name, value, golden[f"mid/{name}"]
    for key, value in golden.tensors.items():
        if match := re.fullmatch(r"out/(enc|dec)_(.+)", key):
            half = model.encoder if match[1] == "enc" else model.decoder
            yield key, half(golden[f"in/{match[2]}"]), value


def tokenizer(path: Path) -> Iterator[Comparison]:
    """The whole tokenizer; a picture of the file, whatever its name, must be one of those that we draw."""
    golden = read(path)
    settings = json.loads(golden.metadata["config"])
    state = weights_of(golden) or recipe_tokenizer(json.loads(golden.metadata["keys_shapes"]))
    lengths = [ids.shape[1] for ids in numbered(golden, "out/idx").values()]
    own = settings.get("v_patch_nums") or settings.get("patch_nums") or [math.isqrt(length) for length in lengths]
    options = {"phi_ratio": "quant_resi", "normalize_codes": "using_znorm", "commitment": "beta"}
    given = {ours: settings[theirs] for ours, theirs in options.items() if theirs in settings}
    if "using_znorm" not in settings:
        given["normalize_codes"] = "znorm" in path.stem
    hits = torch.zeros(len(own), len(state["quantize.embedding.weight"]))
    state.setdefault("quantize.ema_vocab_hit_SV", hits)  # no weight: a list of weights may lack it
    config = import_var.tokenizer_config(shapes_of(state), patch_nums=own, **given)
    model = load_tokenizer(VarVQModel(config), state)
    images = next(value for key, value in golden.tensors.items() if key.startswith("in/") and value.shape[1] == 3)
    features = model.features(images)
    ids, maps = model.quantize.encode(features)
    output = model(images)
    ours = {"f": features, "fhat": maps[-1], "enc": model.encoder(images), "encoder": model.encoder(images)}
    for scale in range(len(ids)):
        ours |= {f"idx_{scale}": ids[scale], f"fhat_{scale}": maps[scale]}
    pictures = [output.reconstruction, *model.reconstruct(images, every_scale=True)]
    pictures += [model.draw(fhat).clamp(-1, 1) for fhat in model.quantize.decode(ids, full_size=False)]
    for key, value in golden.tensors.items():
        name = key.removeprefix("out/")
        if name == key:
            continue
        if name in ours:
            yield name, ours[name], value
        elif "loss" in name and value.numel() == 1:
            yield name, output.loss.reshape(value.shape), value
        elif value.ndim == 4 and value.shape[1] == 3 and any(x.shape == value.shape for x in pictures):
            alike = [picture for picture in pictures if picture.shape == value.shape]
            yield name, min(alike, key=lambda picture, value=value: float((picture - value).abs().max())), value


def small_tokenizer(settings: dict[str, Any]) -> VarVQModel:
    """The tokenizer of `var_vqvae_l2_partial4`, whose weights follow from their names."""
    shared = {"ch": 32, "v_patch_nums": settings["patch_nums"], "V": settings["V"], "share_quant_resi": 4}
    model = VarVQModel(tokenizer_config(shared, settings["Cvae"]))
    return load_tokenizer(model, recipe_tokenizer(original_shapes(model)))


def original_shapes(model: VarVQModel) -> dict[str, list[int]]:
    """Names of the source for a tokenizer whose scales share four phis."""
    shapes = {key: list(value.shape) for key, value in model.state_dict().items() if not key.endswith("hit_updates")}
    names = {"quantize.code_hits": "quantize.ema_vocab_hit_SV"}
    return {names.get(key, key.replace(".phis.", ".quant_resi.qresi_ls.")): shape for key, shape in shapes.items()}


def recipe_tokenizer(shapes: dict[str, list[int]]) -> dict[str, Any]:
    state = recipe_weights(shapes)
    state["quant_conv.weight"] = state["quant_conv.weight"] * 4
    return state


def transformer(path: Path) -> Iterator[Comparison]:
    """Teacher-forced logits and loss, one block with and without the mask, the head, greedy generation."""
    golden = read(path)
    settings = json.loads(golden.metadata["config"])
    tokenizer_model = small_tokenizer(settings)
    model = VarForImageGeneration(
        VarConfig(
            vq_config=tokenizer_model.config,
            num_classes=settings["num_classes"],
            num_hidden_layers=settings["depth"],
            hidden_size=settings["embed_dim"],
            num_attention_heads=settings["num_heads"],
            mlp_ratio=settings["mlp_ratio"],
            layer_norm_eps=settings["norm_eps"],
            shared_adaln=settings["shared_aln"],
            normalize_attention=settings["attn_l2_norm"],
            class_dropout=settings["cond_drop_rate"],
        )
    ).eval()
    weights = renamed(weights_of(golden), transformer_rules())
    missing, left = model.load_state_dict(weights, strict=False)
    assert not left
    assert all(key.startswith("vq_model.") for key in missing)
    model.vq_model.load_state_dict(tokenizer_model.state_dict())

    labels, read_in = golden["in/label"], golden["in/x_BLCv_wo_first_l"]
    outputs = model(labels, scale_inputs=read_in, labels=golden["in/gt_idx"])
    yield "logits", outputs.logits, golden["out/logits"]
    yield "ce_mean", outputs.loss[None], golden["out/ce_mean"]
    x, condition = golden["in/block_x"], golden["in/block_cond"]
    level = model._levels(x.device)
    for name, mask in (("block0", level[:, None] >= level), ("block0_nomask", None)):
        modulation = model._modulation(condition) if condition.ndim == 2 else condition
        yield name, model.blocks[0](x, modulation, mask, None), golden[f"out/{name}"]
    if condition.ndim == 2:  # the head reads the class itself
        yield "head", model.head(model.head_nm(x, condition)), golden["out/head"]
    yield from generation(golden, model)


def generation(golden: Golden, model: VarForImageGeneration) -> Iterator[Comparison]:
    """Greedy, with several strengths of guidance."""
    labels = re.search(r"labels (\d+) and (\d+)", golden.metadata.get("note", ""))
    classes = torch.tensor([int(label) for label in labels.groups()]) if labels else golden["in/label"]
    for case in sorted({key.split("/")[1] for key in golden.tensors if key.startswith("out/cfg")}):
        raw: list[torch.Tensor] = []
        hook = model.head.register_forward_hook(lambda module, args, output, raw=raw: raw.append(output))
        made = model.generate(
            classes,
            guidance_scale=float(case.removeprefix("cfg")),
            do_sample=False,
            output_logits=True,
        )
        hook.remove()
        for scale, ids in enumerate(made.image_ids):
            yield f"{case} raw_{scale}", raw[scale], golden[f"out/{case}/raw_logits_{scale}"]
            yield f"{case} mixed_{scale}", made.logits[scale], golden[f"out/{case}/mixed_logits_{scale}"]
            yield f"{case} idx_{scale}", ids, golden[f"out/{case}/idx_{scale}"]
        yield f"{case} image", made.images, golden[f"out/{case}/image"]


def sampling(path: Path) -> Iterator[Comparison]:
    """Which logits survive the filter, and with what value."""
    golden = read(path)
    for key, value in golden.tensors.items():
        if match := re.fullmatch(r"out/k(\d+)_p([\d.]+)", key):
            ours = filtered_logits(golden["in/logits"], top_k=int(match[1]), top_p=float(match[2]))
            yield f"{key} kept", ours.isfinite(), value.isfinite()
            yield key, ours.where(ours.isfinite(), 0), value.where(value.isfinite(), 0)
