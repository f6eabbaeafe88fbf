# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Import of VAR's own checkpoints as folders that `from_pretrained` opens.

    import_var("vae_ch160v4096z32.pth", "tokenizer")
    import_var("vae_ch160v4096z32.pth", "generator", transformer="var_d16.pth")

`import_var_file` detects from the weights which of the two a file is; `fila import --system var` calls it.

Sizes are read from the weights. The weights do not determine the patch numbers: the released list whose length and
number of scales fit is used.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from fila.modeling.configuration_var import VarConfig, VarVQConfig
from fila.modeling.modeling_var import VarForImageGeneration
from fila.modeling.modeling_var_vq import VarVQModel
from fila.processing.image_processing_var import VarImageProcessorPil

from .key_rules import Rule, apply_rules, check_targets
from .output import written_atomically
from .rules_var import tokenizer_rules, transformer_rules
from .safetensors_file import read_header

Shapes = Mapping[str, Sequence[int]]

# 256, 512 and 1024 pixels
RELEASED_SCALES = (
    (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64),
)
RESIZE = 1.125  # of the short side before the crop


def find_scales(num_scales: int, length: int | None = None) -> list[int]:
    """Return the released patch numbers with this number of scales and, if known, of ids.

    Raises:
        ValueError: If there is none.

    Example:
        >>> find_scales(10, 2240)[-1]
        32
    """
    for scales in RELEASED_SCALES:
        if len(scales) == num_scales and length in (None, sum(num**2 for num in scales)):
            return list(scales)
    wanted = f"{num_scales} scales" + (f" and {length} ids" if length is not None else "")
    raise ValueError(f"No released model has {wanted}. Pass `patch_nums`.")


def tokenizer_config(shapes: Shapes, *, patch_nums: Sequence[int] | None = None, **options: Any) -> VarVQConfig:
    """Return the config of a tokenizer with weights of these shapes.

    Args:
        shapes: Key to shape, under the source's names.
        patch_nums: The scales, if they are not a released list.
        options: Settings that shapes do not determine: `phi_ratio`, `normalize_codes`, `commitment`, `dropout`.

    Raises:
        ValueError: If the weights are not a VAR tokenizer's.
    """
    needed = ("encoder.conv_in.weight", "quantize.embedding.weight", "quantize.ema_vocab_hit_SV")
    if missing := [key for key in needed if key not in shapes]:
        raise ValueError(f"These are not the weights of a VAR tokenizer: {missing[0]!r} is missing.")
    base, channels = shapes["encoder.conv_in.weight"][:2]
    levels = _count(shapes, "encoder.down.{}.block.0.conv1.weight")
    scales = list(patch_nums) if patch_nums else find_scales(shapes["quantize.ema_vocab_hit_SV"][0])
    phis = sum(key.startswith("quantize.quant_resi.") and key.endswith(".weight") for key in shapes)
    if not phis:
        options = {"phi_ratio": 0.0} | options
    return VarVQConfig(
        image_size=scales[-1] * 2 ** (levels - 1),
        num_channels=channels,
        base_channels=base,
        channel_multipliers=[shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] // base for i in range(levels)],
        num_res_blocks=_count(shapes, "encoder.down.0.block.{}.conv1.weight"),
        attention_in_last_level=f"encoder.down.{levels - 1}.attn.0.qkv.weight" in shapes,
        attention_in_middle="encoder.mid.attn_1.qkv.weight" in shapes,
        codebook_size=shapes["quantize.embedding.weight"][0],
        code_size=shapes["quantize.embedding.weight"][1],
        patch_nums=scales,
        num_phis=max(phis, 1),
        **options,
    )


def generator_config(shapes: Shapes, tokenizer: Shapes, *, patch_nums: Sequence[int] | None = None) -> VarConfig:
    """Return the config of a transformer with weights of these shapes, and of its tokenizer.

    Raises:
        ValueError: If the weights are not a VAR transformer's.
    """
    if "pos_1LC" not in shapes or "class_emb.weight" not in shapes:
        raise ValueError("These are not the weights of a VAR transformer: 'pos_1LC' or 'class_emb.weight' is missing.")
    depth, width = _count(shapes, "blocks.{}.attn.mat_qkv.weight"), shapes["pos_1LC"][2]
    scales = list(patch_nums) if patch_nums else find_scales(shapes["lvl_embed.weight"][0], shapes["pos_1LC"][1])
    heads = shapes.get("blocks.0.attn.scale_mul_1H11")
    return VarConfig(
        vq_config=tokenizer_config(tokenizer, patch_nums=scales),
        num_classes=shapes["class_emb.weight"][0] - 1,
        num_hidden_layers=depth,
        hidden_size=width,
        num_attention_heads=heads[1] if heads else depth,  # the source has as many heads as blocks
        mlp_ratio=shapes["blocks.0.ffn.fc1.weight"][0] / width,
        shared_adaln="shared_ada_lin.1.weight" in shapes,
        normalize_attention=heads is not None,
    )


def import_var(
    tokenizer: str | Path,
    output: str | Path,
    *,
    transformer: str | Path | None = None,
    patch_nums: Sequence[int] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Write a folder for `VarVQModel`, or with `transformer` for `VarForImageGeneration`.

    Args:
        tokenizer: A file of weights, `.pth` or `.safetensors`. A `.pth` is read without running pickled code.
        output: The folder.
        transformer: Another such file.
        patch_nums: The scales, if they are not a released list.
        overwrite: Replace the folder if it exists.

    Returns:
        How many tensors were left behind, by reason.

    Raises:
        ValueError: If a file does not hold what it should.
        RuntimeError: If a tensor is left over on either side, or a shape differs.
        FileExistsError: If `output` is there.
    """
    vq_state = read_weights(Path(tokenizer))
    state = {} if transformer is None else read_weights(Path(transformer))
    model: Any
    with torch.device("meta"):
        if transformer is None:
            config = tokenizer_config(shapes_of(vq_state), patch_nums=patch_nums)
            model = VarVQModel(config)
        else:
            generator = generator_config(shapes_of(state), shapes_of(vq_state), patch_nums=patch_nums)
            config, model = generator.vq_config, VarForImageGeneration(generator)
    weights, dropped = collect(model, vq_state, state)
    model.load_state_dict(weights, assign=True)
    side = config.image_size
    processor = VarImageProcessorPil(
        size={"shortest_edge": round(RESIZE * side)}, crop_size={"height": side, "width": side}
    )
    with written_atomically(Path(output), overwrite=overwrite, inputs=[tokenizer, transformer]) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return dropped


def import_var_file(
    source: str | Path,
    output: str | Path,
    *,
    tokenizer: str | Path | None = None,
    patch_nums: Sequence[int] | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Import a tokenizer or a transformer, whichever the file holds; see `import_var`.

    Args:
        source: Weights of an image tokenizer, or of a transformer.
        output: The folder.
        tokenizer: With a transformer, the file of its image tokenizer.
        patch_nums, overwrite: As in `import_var`.

    Returns:
        How many tensors were left behind, by reason.

    Raises:
        ValueError: If a file is missing or of the wrong kind, if a transformer comes without a tokenizer, or a
            tokenizer comes with a second one.
    """
    for path in (source, *([] if tokenizer is None else [tokenizer])):
        if not Path(path).is_file():
            raise ValueError(f"{path} must be a file of weights, .pth or .safetensors, as VAR publishes them.")
    is_transformer = "pos_1LC" in read_weights(Path(source))
    if is_transformer and tokenizer is None:
        raise ValueError(
            f"{Path(source).name} holds a transformer, whose image tokenizer is a file of its own. Pass `tokenizer`, "
            "for instance vae_ch160v4096z32.pth."
        )
    if not is_transformer and tokenizer is not None:
        raise ValueError(
            f"{Path(source).name} holds no transformer, for which `tokenizer` would be. Pass the transformer's file, "
            "or leave `tokenizer` out."
        )
    if is_transformer and tokenizer is not None:
        return import_var(tokenizer, output, transformer=source, patch_nums=patch_nums, overwrite=overwrite)
    return import_var(source, output, patch_nums=patch_nums, overwrite=overwrite)


def collect(
    model: nn.Module, tokenizer: Mapping[str, torch.Tensor], transformer: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return all of the model's weights, taken from the source, and the number of dropped tensors by reason.

    Raises:
        RuntimeError: If a tensor is left over on either side, or a shape differs.
    """
    prefix = "vq_model." if isinstance(model, VarForImageGeneration) else ""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    hits = f"{prefix}quantize.code_hits"
    keep_hits = tuple(tokenizer["quantize.ema_vocab_hit_SV"].shape) == expected[hits]
    sources: list[tuple[str, Mapping[str, torch.Tensor], list[Rule]]] = [
        ("the tokenizer", tokenizer, tokenizer_rules(prefix, keep_hits=keep_hits))
    ]
    if transformer:
        sources.append(("the transformer", transformer, transformer_rules()))
    # statistics that the source does not keep
    weights = {f"{prefix}quantize.hit_updates": torch.zeros((), dtype=torch.int64)}
    if not keep_hits:
        weights[hits] = torch.zeros(expected[hits])
    origin = dict.fromkeys(weights, "its initial value")
    reasons: Counter[str] = Counter()
    for name, state, rules in sources:
        plan = apply_rules(state, rules, name=name)
        reasons.update(plan.dropped.values())
        for move in plan.moves:
            weights[move.target] = state[move.source]
            origin[move.target] = f"{name}, {move.source!r}"
    check_targets({key: tuple(value.shape) for key, value in weights.items()}, expected, origin=origin)
    return weights, dict(reasons)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file.

    Raises:
        ValueError: If it holds something else.
    """
    if path.suffix == ".safetensors":
        read_header(path)
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file can raise any error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path.name} cannot be read as weights alone: {reason[:300]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a plain dict of tensors, as VAR's released files do.")
    return state


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return key to shape."""
    return {key: tuple(value.shape) for key, value in state.items()}


def _count(shapes: Shapes, pattern: str) -> int:
    """Count the keys that match `pattern` with 0, 1, 2, ... filled in."""
    return next(index for index in itertools.count() if pattern.format(index) not in shapes)
