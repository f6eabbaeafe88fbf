# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Account of an assembly: the source of every tensor of the model, the fate of every tensor of a part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from fila.modeling.modeling_fila import FilaForConditionalGeneration

from .key_rules import Rule, apply_rules, check_targets
from .new_weights import initial_weights, stored_shapes
from .pretrained_part import Part
from .rules_convnext import convnext_rules
from .rules_text import text_base_prefix, text_rules
from .rules_vit import LAYOUTS, vit_rules
from .safetensors_file import TensorStream
from .shared_templates import HIGH, LOW
from .streams import ExtendedTensor, NewTensor, TransformedTensor


@dataclass
class Account:
    """Streams and sources of the target keys, and the dropped tensors.

    Attributes:
        streams: Target key to values, in the model's order once complete.
        origin: Target key to a description of its source.
        dropped: (part, reason, number of tensors).
    """

    streams: dict[str, TensorStream] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    dropped: list[tuple[str, str, int]] = field(default_factory=list)

    def add_part(self, part: Part, rules: Sequence[Rule], *, extended: Mapping[str, int] | None = None) -> None:
        """Add a part's tensors by the rules; `extended` maps some targets to their number of rows."""
        plan = apply_rules(part.tensors, rules, name=part.name)
        for move in plan.moves:
            stored = part.tensors[move.source]
            if move.target in self.origin:
                raise RuntimeError(
                    f"{move.target!r} comes out of {self.origin[move.target]} and of {part.name}, {move.source!r}; "
                    "leave one of them out."
                )
            if not stored.dtype.is_floating_point or stored.dtype.itemsize < 2:
                raise ValueError(
                    f"{part.name}: {move.source!r} has dtype {stored.dtype}, so the part is quantized. Assemble from "
                    "its full-precision original, and quantize the result."
                )
            rows = (extended or {}).get(move.target, 0)
            stream: TensorStream = stored
            if move.forward is not None:
                stream = TransformedTensor(stored, move.forward, move.shape(stored.shape))
            elif rows > stored.shape[0]:
                stream = ExtendedTensor(stored, rows - stored.shape[0])
            self.streams[move.target] = stream
            self.origin[move.target] = f"{part.name}, {move.source!r}"
        for reason, count in Counter(plan.dropped.values()).items():
            self.dropped.append((part.name, reason, count))

    def add_new(self, values: Mapping[str, torch.Tensor]) -> None:
        """Add weights that no part provides."""
        for key, tensor in values.items():
            self.streams[key] = NewTensor(tensor)
            self.origin[key] = "the model's own initial values"


def low_res_rules(model: FilaForConditionalGeneration) -> list[Rule]:
    """Return the rules for the part that provides the model's low-res tower."""
    return vit_rules(model.config.vision_config, LOW, num_layers=model.config.num_vision_layers)


def high_res_rules(part: Part, model: FilaForConditionalGeneration) -> list[Rule]:
    """Return the rules for the part that provides the model's first high-res tower."""
    tower, config = model.model.vision_tower.high_res_tower, model.config.high_res_vision_config
    if config.model_type not in LAYOUTS:
        return convnext_rules(part, config, num_stages=len(tower.encoder.stages))
    return vit_rules(config, HIGH, num_layers=getattr(tower, "num_layers", config.num_hidden_layers))


def collect_weights(
    model: FilaForConditionalGeneration, *, low_res: Part, high_res: Part | None, text: Part, seed: int
) -> Account:
    """Find a source for every tensor of the model and a fate for every tensor of the parts.

    Args:
        model: The model on meta; its new modules are allocated and initialised.
        low_res: Checkpoint of the low-res tower.
        high_res: Checkpoint of the high-res tower; if None, or opened for its config alone, the tower's weights are
            new.
        text: Language-model checkpoint. Its embedding and head get new rows if the model's are longer.
        seed: Random seed of the new weights.

    Returns:
        The account, complete and in the model's order.

    Raises:
        RuntimeError: If a tensor is left over on either side, or a shape differs.
    """
    config = model.config
    account = Account()
    account.add_part(low_res, low_res_rules(model))

    new_modules = ["model.vision_tower.fusion", "model.multi_modal_projector"]
    if model.model.injection is not None:
        new_modules.append("model.injection")
    if hasattr(model.model.vision_tower.low_res_tower, "vit_merger"):
        new_modules.append(f"{LOW}vit_merger")
    if high_res is not None and high_res.tensors:
        account.add_part(high_res, high_res_rules(high_res, model))
    elif config.high_res_vision_config is not None:
        new_modules.append("model.vision_tower.high_res_tower")

    by_token = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    extended = {
        name: config.text_config.vocab_size
        for name, weight in model.named_parameters()
        if any(weight is matrix for matrix in by_token)
    }
    rules = text_rules(base_prefix=text_base_prefix(config.text_config), tied=bool(config.tie_word_embeddings))
    account.add_part(text, rules, extended=extended)

    account.add_new(initial_weights(model, new_modules, seed=seed))
    expected = stored_shapes(model)
    check_targets({key: stream.shape for key, stream in account.streams.items()}, expected, origin=account.origin)
    account.streams = {key: account.streams[key] for key in expected}
    return account
