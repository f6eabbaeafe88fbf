# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Streams of image features that are added before layers of the language model ("DeepStack").

Papers: Meng et al., "DeepStack: Deeply Stacking Visual Tokens is Surprisingly Simple and Effective for LMMs",
arXiv:2406.04334; Qwen3-VL, arXiv:2511.21631; Granite 4 Vision (2026).
Code: transformers, `models/granite4_vision` and `models/qwen3_vl`.

    h_l[p] <- h_l[p] + connector_j(features_j)[p]     p: placeholder of an image; l = `before` of stream j

h_l is what layer l reads, counted from 0; h_0 is the input after any multiplier of the embeddings. Qwen3-VL adds after
layer k, which is before layer k + 1.

Deviations: two streams before one layer are refused (Granite's class keeps the last one alone). The gates are an
option of ours.

Shapes: N_i image tokens of image i, M language-model width.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import initialization as init

from .configuration_fila import FilaConfig
from .connector import Connector, build_connector
from .injection_layers import extend_layers, run_with_streams
from .modeling_outputs import FilaImageFeatures, FilaVisionOutput
from .modeling_packed_rows import OF_ENGINES
from .part_options import one_of

KEYS = ("layer", "tap", "before", "connector")


class StreamInjection(nn.Module):
    """Adds streams before layers of the language model.

    Args:
        config: The `FilaConfig`.
        fusion: Its fusion.
        streams: One dict per stream. `before` is the layer of the language model, counted from 0. `layer` is the
            hidden state of the low-res tower that the stream reads: 0 is the output of the embeddings, i that of layer
            i, negative numbers count from the end (-1 is the last layer's), and "fusion" is the fusion's output; no
            norm follows. Instead of `layer`, `tap` names a tap of the fusion, counted from 1: the stream reads what
            the fusion made there. `connector` holds a connector's `type` and options; by default the config's
            `connector`.
        input: "tokens": the image tokens replace the placeholders' embeddings, as without injection; "zero": zeros
            do, and the config's `connector` only gives the number of tokens and is the streams' default.
        gate: Whether each stream is multiplied by the tanh of a learned scalar that starts at zero, so that the model
            starts as the one without streams.

    Raises:
        ValueError: If a stream names a layer that does not exist or is not kept, two streams name one layer of the
            language model, or streams differ in their number of tokens.
    """

    feature_layers: list[int]
    before: tuple[int, ...]
    connectors: nn.ModuleList

    def __init__(
        self,
        config: FilaConfig,
        fusion: Any,
        *,
        streams: list[dict[str, Any]],
        input: str = "tokens",
        gate: bool = False,
    ) -> None:
        super().__init__()
        if engines := {config._attn_implementation, config.text_config._attn_implementation} & {*OF_ENGINES}:
            raise ValueError(
                f"{engines.pop()} asks a model of transformers for its pooled image features alone, so the streams of "
                "`injection` would be lost without a word. Use transformers' `generate`."
            )
        one_of("injection.input", input, ("tokens", "zero"))
        if not isinstance(streams, list | tuple) or not streams:
            raise ValueError(f"`injection.streams` must be a list with at least one stream; got {streams!r}.")
        for number, stream in enumerate(streams):
            _check_keys(number, stream)
        self.input = input
        self.layers = tuple(_vision_layer(config, fusion, number, stream) for number, stream in enumerate(streams))
        self.feature_layers = [layer for layer in self.layers if layer is not None]
        if config.has_serial_towers and self.feature_layers:
            raise ValueError(
                "With `low_res_views` 'high_res_map' views of one size run together, and `injection.streams` can read "
                f"the fusion's output alone; they name layers {self.feature_layers}. Give each `layer` 'fusion'."
            )
        self.before = tuple(stream["before"] for stream in streams)
        self._check_before(config)
        if config.video_token_id is not None:
            raise ValueError(
                "`injection` adds streams of images, and `video_token_id` says that the model takes videos, whose "
                "frames have none. Set `video_token_id` to null."
            )
        if input == "zero":
            self._check_reads_all(config, fusion)
        # features that are no patches, with CLS, form a row
        grid = config.patch_grid if config.vision_feature_select == "patch" else fusion.output_grid
        self.grids = tuple(fusion.output_grid if layer is None else grid for layer in self.layers)
        self.connectors = nn.ModuleList(
            cast(
                nn.Module,
                build_connector(
                    config,
                    fusion.output_size if layer is None else config.vision_config.hidden_size,
                    stream.get("connector"),
                ),
            )
            for layer, stream in zip(self.layers, streams, strict=True)
        )
        with torch.device("meta"):
            main = build_connector(config, fusion.output_size)
        self._check_counts(config, main, fusion.output_grid)
        self.gates = nn.Parameter(torch.zeros(len(streams))) if gate else None

    def _check_before(self, config: FilaConfig) -> None:
        depth = config.text_config.num_hidden_layers
        for number, layer in enumerate(self.before):
            if type(layer) is not int or not 0 <= layer < depth:
                raise ValueError(
                    f"`injection.streams[{number}].before` must be a layer of the language model, 0..{depth - 1}; got "
                    f"{layer!r}."
                )
            if layer in self.before[:number]:
                raise ValueError(
                    f"`injection.streams[{number}]` and stream {self.before.index(layer)} are both added before layer "
                    f"{layer} of the language model. Give each a layer of its own."
                )

    def _check_reads_all(self, config: FilaConfig, fusion: Any) -> None:
        """Check that some stream reads the last thing that the encoder computes: nothing else does."""
        if None in self.layers:
            return
        if fusion.final_stages:
            raise ValueError(
                f"With `injection.input` 'zero' nothing reads the output of fusion {config.fusion['type']!r}, which "
                "joins the towers after the last layer. Give a stream `layer` 'fusion'."
            )
        deepest = max(cast("tuple[int, ...]", self.layers))
        if deepest < config.num_vision_layers:
            raise ValueError(
                f"With `injection.input` 'zero' nothing reads the low-res tower behind layer {deepest}, and layers up "
                f"to {config.num_vision_layers} are kept. Set `vision_feature_layer` to {deepest}."
            )

    def _check_counts(self, config: FilaConfig, main: Connector, main_grid: tuple[int, int]) -> None:
        expected = main.tokens_per_tile(main_grid)
        for number, (connector, grid) in enumerate(zip(self.connectors, self.grids, strict=True)):
            count = cast(Connector, connector).tokens_per_tile(grid)
            if count != expected:
                raise ValueError(
                    "All streams must have as many tokens as the image has placeholders. `connector` "
                    f"{config.connector['type']!r} makes {expected} of a view, and that of "
                    f"`injection.streams[{number}]` makes {count}. Change one of them."
                )

    def set_initial_weights(self, std: float) -> None:
        """Close the gates."""
        if self.gates is not None:
            init.zeros_(self.gates)

    def _gated(self, stream: int, tokens: torch.Tensor) -> torch.Tensor:
        """Multiply the tokens `(N_i, M)` of a stream by its gate, if there are gates."""
        return tokens if self.gates is None else tokens * torch.tanh(self.gates[stream]).to(tokens)

    def attach(self, tower: Any, language_model: nn.Module) -> None:
        """Extend the language model's layers, and check that nothing of the tower is left unread.

        Raises:
            ValueError: If the tower has a final norm that nothing reads, or the layers cannot be found.
        """
        if self.input == "zero" and None not in self.layers and getattr(tower, "final_norm", None) is not None:
            raise ValueError(
                "With `injection.input` 'zero' nothing reads the low-res tower behind its final norm: streams read "
                "hidden states without it. Set `norm` to false in the `tower_options` of `vision_config`."
            )
        merge_after = getattr(getattr(tower, "vit_merger", None), "after", 0)
        if early := [layer for layer in self.feature_layers if layer < merge_after]:
            raise ValueError(
                f"`injection.streams` read layers {early} of the low-res tower, whose patches are joined behind layer "
                f"{merge_after}; all streams must have the grid behind it. Choose later layers."
            )
        extend_layers(language_model, self.before)

    def run(
        self, language_model: nn.Module, placeholders: torch.Tensor, encoded: FilaImageFeatures, **inputs: Any
    ) -> Any:
        """Run the language model with the streams of image features; see `run_with_streams`.

        Raises:
            ValueError: If the image features came without streams, or with others than the image tokens need.
        """
        found = getattr(encoded, "deepstack_features", None) or []
        lengths = [len(tokens) for tokens in cast("list[torch.Tensor]", encoded.pooler_output)]
        streams = [[len(tokens) for tokens in stream] for stream in found]
        if streams != [lengths] * len(self.before):
            raise ValueError(
                f"The image features must hold {len(self.before)} streams for `injection`, of {lengths} tokens each; "
                f"got {streams}. Pass the output of `get_image_features` whole."
            )
        joined = [torch.cat(list(stream)) for stream in found]
        return run_with_streams(language_model, self.before, placeholders, joined, **inputs)

    def input_connector(self, config: FilaConfig, fusion: Any) -> Connector:
        """Return the connector whose tokens replace the placeholders, or what stands for it where zeros do."""
        if self.input == "tokens":
            return build_connector(config, fusion.output_size)
        with torch.device("meta"):
            return cast(Connector, NoTokens(build_connector(config, fusion.output_size)))

    def image_features(
        self, encoded: FilaVisionOutput, laid_out: Callable[..., list[torch.Tensor]], in_runs: bool | None
    ) -> FilaImageFeatures:
        """Make the image tokens and the streams.

        Args:
            encoded: Output of the encoder, with the features of `feature_layers`.
            laid_out: Function from features `(T, P, D)`, a connector and a grid to each image's tokens `(N_i, M)`.
            in_runs: As in the result.
        """
        streams, of_layers = [], iter(encoded.layer_features or ())
        for number, (layer, connector) in enumerate(zip(self.layers, self.connectors, strict=True)):
            features = encoded.last_hidden_state if layer is None else next(of_layers)
            tokens = laid_out(features, connector, self.grids[number])
            streams.append([self._gated(number, own) for own in tokens])
        pooled = (
            laid_out(encoded.last_hidden_state)
            if self.input == "tokens"
            else [torch.zeros_like(tokens) for tokens in streams[0]]
        )
        kept = {key: value for key, value in encoded.items() if key != "layer_features"}
        return FilaImageFeatures(**{**kept, "pooler_output": pooled}, in_runs=in_runs, deepstack_features=streams)


class NoTokens(nn.Module):
    """A connector's number and places of tokens, without its weights.

    Args:
        connector: The connector, on the meta device.
    """

    def __init__(self, connector: Connector) -> None:
        super().__init__()
        self.like = (connector,)  # in a tuple, so that its weights are none of the model's
        self.takes_unequal_views = connector.takes_unequal_views
        self.patch_block = connector.patch_block
        self.over_time = connector.over_time

    def tokens_per_tile(self, patch_grid: tuple[int, int]) -> int:
        """Return the connector's number of tokens."""
        return self.like[0].tokens_per_tile(patch_grid)

    def token_grid(self, patch_grid: tuple[int, int]) -> tuple[int, int] | None:
        """Return the connector's grid of tokens."""
        return self.like[0].token_grid(patch_grid)


def _check_keys(number: int, stream: object) -> None:
    if not isinstance(stream, Mapping):
        raise ValueError(f"`injection.streams[{number}]` must be a dict; got {stream!r}.")
    if unknown := sorted(set(stream) - set(KEYS)):
        raise ValueError(f"`injection.streams[{number}]` has no option {unknown}; it accepts {list(KEYS)}.")
    if ("layer" in stream) == ("tap" in stream) or "before" not in stream:
        raise ValueError(
            f"`injection.streams[{number}]` must have `before` and one of `layer` and `tap`; got {sorted(stream)}."
        )


def _vision_layer(config: FilaConfig, fusion: Any, number: int, stream: Mapping[str, Any]) -> int | None:
    """Return the number of layers of the low-res tower before the hidden state that a stream reads."""
    name = f"`injection.streams[{number}]"
    if "tap" in stream:
        tap, taps = stream["tap"], fusion.taps
        if type(tap) is not int or not 1 <= tap <= len(taps):
            raise ValueError(
                f"{name}.tap` must be one of the {len(taps)} taps of fusion {config.fusion['type']!r}, counted from "
                f"1; got {tap!r}."
            )
        return int(taps[tap - 1][0])
    layer, depth = stream["layer"], int(config.vision_config.num_hidden_layers)
    if layer == "fusion":
        return None
    if type(layer) is not int or not -depth - 1 <= layer <= depth:
        raise ValueError(
            f"{name}.layer` must be 'fusion' or a hidden state of the low-res tower: 0 (the embeddings) to {depth}, "
            f"or {-depth - 1}..-1 from the end; got {layer!r}."
        )
    found = layer if layer >= 0 else depth + 1 + layer
    if found > config.num_vision_layers:
        raise ValueError(
            f"{name}.layer` is {layer}, the output of layer {found} of the low-res tower, of which only "
            f"{config.num_vision_layers} are kept. Set `vision_feature_layer` to at least {found}."
        )
    return found
