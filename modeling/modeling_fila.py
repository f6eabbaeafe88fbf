# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""FILA: hybrid encoder -> connector -> language model.

Paper: Zhu et al., "FILA: Fine-Grained Vision Language Models", arXiv:2412.08378.

Shapes: B samples, L sequence length, I images of the batch, V views of the image with the most, N_i image tokens of
image i, M language-model width.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Unpack, cast

import torch
from torch import nn
from transformers import AutoModel, GenerationConfig, GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.import_utils import is_torchdynamo_compiling, torch_compilable_check

from .configuration_fila import FilaConfig
from .connector import Connector, build_connector
from .image_plan import ImagePlan, PerImage, real_view_boxes
from .image_tokens import (
    CACHED,
    DROPPED,
    NEWLINE,
    SEPARATOR,
    has_placeholder,
    images_per_sample,
    repeated_rows,
    select_tokens,
    take_rows,
    uncached_rows,
)
from .model_features import FEATURES
from .modeling_cache_name import CACHE_NAME, named_cache
from .modeling_causal_head import CausalHead, check_takes_embeddings
from .modeling_hybrid_encoder import FilaPreTrainedModel, FilaVisionModel
from .modeling_outputs import FilaCausalLMOutputWithPast, FilaImageFeatures, FilaModelOutputWithPast
from .modeling_packed_rows import check_packed, is_packed
from .module_dtypes import at_entry
from .module_sharding import is_sharded
from .view_layout import FRAMES_PER_CHUNK, VIDEO_INPUTS, VIEWS_PER_CHUNK, chunks_of
from .view_patch_grid import Grid

# All outputs of the image processor besides `pixel_values`.
IMAGE_INPUTS = (
    "pixel_values",
    "view_boxes",
    "tile_grid",
    "high_res_pixel_values",
    "high_res_sizes",
    "patch_grids",
    "image_token_index",
    "view_positions",
)


class FilaModel(FilaPreTrainedModel):
    """Hybrid encoder, connector and language model, without a head."""

    def __init__(self, config: FilaConfig) -> None:
        super().__init__(config)
        self.vision_tower = FilaVisionModel._from_config(config)
        fusion = self.vision_tower.fusion
        self.injection: Any = None  # an `Injection` that is a module
        if config.has_injection:
            self.injection = FEATURES["injection"](config, fusion)
        self.multi_modal_projector: Any = (  # a `Connector` that is a module
            build_connector(config, fusion.output_size)
            if self.injection is None
            else self.injection.input_connector(config, fusion)
        )
        self.image_newline = None
        if config.image_newline:
            self.image_newline = nn.Parameter(torch.empty(config.text_config.hidden_size))
        self.view_separator = None
        if config.view_separator:
            self.view_separator = nn.Parameter(torch.empty(config.text_config.hidden_size))
        self.views_per_chunk: int | None = VIEWS_PER_CHUNK
        self.frames_per_chunk = FRAMES_PER_CHUNK
        self.slice_positions = FEATURES["slice_positions"](config) if config.slice_positions else None
        self.visionzip = self.vision_tower.visionzip
        if self.visionzip is not None:
            self.visionzip.check_connector(config, self.multi_modal_projector)
        elif config.prune is not None:
            FEATURES["pruning"].check_options(config.prune)
            FEATURES["pruning"].check_cells(config, self.vision_tower.fusion, self.multi_modal_projector)
        self.tokens_per_tile: int = self.multi_modal_projector.tokens_per_tile(self.vision_tower.fusion.output_grid)
        self.clip_tokens: dict[str, int] | None = None
        if "videos" in FEATURES:
            grid = self.vision_tower.fusion.output_grid
            self.clip_tokens = FEATURES["videos"].clip_token_rule(self.multi_modal_projector, grid)
        check_takes_embeddings(config.text_config)
        self.language_model = AutoModel.from_config(config.text_config)
        if self.injection is not None:
            self.injection.attach(self.vision_tower.low_res_tower, self.language_model)
        self._can_compile_fullgraph = self.language_model._can_compile_fullgraph
        self.post_init()

    @torch.compiler.disable  # image sizes are Python numbers: every batch of images would compile a graph of its own
    @merge_with_config_defaults
    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: PerImage,
        view_boxes: PerImage | None = None,
        tile_grid: PerImage | None = None,
        high_res_pixel_values: PerImage | None = None,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
        image_token_index: PerImage | None = None,
        view_positions: PerImage | None = None,
        image_position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode images into image tokens, at most `views_per_chunk` views at a time outside training.

        Args:
            pixel_values: `(I, V, 3, S, S)` float views, overview first, or a list with one `(V_i, 3, S, S)` per image.
            view_boxes: `(I, V, 4)` int, (top, left, bottom, right) of each view in canvas pixels; all zero for
                padding.
            tile_grid: `(I, 2)` int, (rows, cols) of the tiles.
            high_res_pixel_values: `(I, 3, H, W)` float canvases for the high-res tower.
            high_res_sizes: `(I, 2)` int, (height, width) of each canvas inside `high_res_pixel_values`.
            patch_grids: `(I, V, 2)` int, (rows, cols) of each view's patches, if views differ in size; `pixel_values`
                is then `(I, V, 3, p, L * p)`, with the patches of a view side by side.
            image_token_index: `(I, N)` int, the token of each placeholder of an image, counted over the image's views;
                -1 is the newline vector, -2 padding, -3 the separator vector. None: all tokens in the order of the
                views.
            view_positions: `(I, V, 2)` int, (row, col) of each view in the tile grid, -1 for an overview; only for
                models with slice positions.
            image_position_ids: `(I, K)` int, all integers of each image, from a processor with `packed_images`:
                `pixel_values` is then `(I, L)`, and no other input is given; see `image_carrier.py`.

        Returns:
            `last_hidden_state`: `(T, P, D)` features of all views; `pooler_output`: a list with one `(N_i, M)` per
                image, in the order of the image's placeholders.

        Raises:
            ValueError: If an input is missing or the sizes contradict each other.
        """
        if image_position_ids is not None:
            unpacked = _unpacked(cast(torch.Tensor, pixel_values), image_position_ids)
            return cast(BaseModelOutputWithPooling, self.get_image_features(**unpacked, return_dict=True, **kwargs))
        if view_boxes is None or tile_grid is None:
            missing = [name for name, value in (("view_boxes", view_boxes), ("tile_grid", tile_grid)) if value is None]
            raise ValueError(
                f"`pixel_values` came without {missing}. Pass everything the processor returns; for a trainer that "
                "passes `pixel_values` alone, such as TRL's GRPOTrainer, set the processor's `packed_images = True`."
            )
        views_per_chunk = None if self.training or is_sharded(self) else self.views_per_chunk
        outputs = self.vision_tower(
            pixel_values,
            view_boxes,
            tile_grid,
            high_res_pixel_values=high_res_pixel_values,
            high_res_sizes=high_res_sizes,
            patch_grids=patch_grids,
            views_per_chunk=views_per_chunk,
            feature_layers=() if self.injection is None else self.injection.feature_layers,
            return_dict=True,
            **kwargs,
        )
        plan = ImagePlan.of(view_boxes, tile_grid, high_res_sizes, patch_grids)

        def laid_out(features: torch.Tensor, connector: Any = None, grid: Grid | None = None) -> list[torch.Tensor]:
            tokens = self.image_tokens(features, plan, view_positions, views_per_chunk, connector=connector, grid=grid)
            if self.visionzip is not None and self.image_newline is not None:
                tokens = self.visionzip.in_map_order(tokens, outputs.chosen, plan)
            if image_token_index is None:
                return tokens
            return [
                select_tokens(own, index, self.image_newline, image, separator=self.view_separator)
                for image, (own, index) in enumerate(zip(tokens, image_token_index, strict=True))
            ]

        in_runs = None if image_token_index is None else True
        if self.injection is None:
            outputs.pooler_output = laid_out(outputs.last_hidden_state)
            if image_token_index is None:
                return outputs
            own = {name: outputs[name] for name in outputs if name != "chosen"}
            features = FilaImageFeatures(**own, in_runs=True)
        else:
            features = self.injection.image_features(outputs, laid_out, in_runs)
        features.gaps = None if image_token_index is None else self.gaps(image_token_index)
        return features

    def gaps(self, image_token_index: PerImage) -> list[torch.Tensor] | None:
        """Return how many tokens pruning left out behind each placeholder of each image; None if none at all."""
        if not any(bool((torch.as_tensor(row) <= DROPPED).any()) for row in image_token_index):
            return None
        if "pruning" not in FEATURES:
            raise ValueError(
                "The code beside this checkpoint does not read pruned prompts. Install the `fila` package and import "
                "it, or save the model with `prune` in its config."
            )
        FEATURES["pruning"].check_cells(self.config, self.vision_tower.fusion, self.multi_modal_projector)
        found: list[torch.Tensor] | None = FEATURES["pruning"].gaps_of(image_token_index)
        return found

    def image_tokens(
        self,
        features: torch.Tensor,
        plan: ImagePlan,
        view_positions: PerImage | None = None,
        views_per_chunk: int | None = None,
        *,
        connector: Any = None,
        grid: Grid | None = None,
    ) -> list[torch.Tensor]:
        """Turn features `(T, P, D)` of all views into each image's tokens `(N_i, M)`, in the order of its views."""
        connector = self.multi_modal_projector if connector is None else connector
        if grid is None or plan.patch_grids is not None:
            grid = self.vision_tower.grid_of(None if plan.patch_grids is None else torch.cat(plan.patch_grids))
        views: list[torch.Tensor] = []
        for chunk in chunks_of(sum(plan.num_views), views_per_chunk):
            own = grid[chunk] if isinstance(grid, torch.Tensor) else grid
            # some fusions end in a transposed view, which not every engine's linear layer takes
            tokens = connector(at_entry(connector, features[chunk].contiguous()), own)
            views.extend(self._placed(tokens, view_positions, plan.num_views, chunk).unbind())
        if isinstance(grid, torch.Tensor):
            lengths = _tokens_of_views(connector, grid)
            views = [view[:length] for view, length in zip(views, lengths, strict=True)]
        rest = iter(views)
        return [torch.cat([next(rest) for _ in range(count)]) for count in plan.num_views]

    @torch.compiler.disable  # as `get_image_features`
    @merge_with_config_defaults
    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: PerImage,
        video_view_boxes: PerImage | None = None,
        video_tile_grid: PerImage | None = None,
        video_high_res_pixel_values: PerImage | None = None,
        video_high_res_sizes: PerImage | None = None,
        video_patch_grids: PerImage | None = None,
        video_token_index: PerImage | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode videos into tokens, at most `frames_per_chunk` frames at a time outside training.

        Args:
            pixel_values_videos: `(W, F, V, 3, S, S)` float, or a list with one `(F_w, V, 3, S, S)` per video; each
                frame has the form of an image in `get_image_features`.
            video_view_boxes: `(W, F, V, 4)` int; all zero for frames and views of padding.
            video_tile_grid: `(W, F, 2)` int.
            video_high_res_pixel_values: `(W, F, 3, H, W)` float, for a model with a high-res tower.
            video_high_res_sizes: `(W, F, 2)` int.
            video_patch_grids: `(W, F, V, 2)` int, where views differ in size.
            video_token_index: `(W, N)` int, as `image_token_index`, counted over all views of all frames.

        Returns:
            `last_hidden_state`: `(T, P, D)` features of all views of all frames, None if they were not encoded
                together; `pooler_output`: a list with one `(N_w, M)` per video.

        Raises:
            ValueError: If an input is missing, or the connector or the slice positions cannot take such a video.
        """
        given = (
            pixel_values_videos,
            video_view_boxes,
            video_tile_grid,
            video_high_res_pixel_values,
            video_high_res_sizes,
            video_patch_grids,
        )
        inputs = dict(zip(VIDEO_INPUTS.values(), given, strict=True))
        if "videos" not in FEATURES:  # the code in the folder of a checkpoint without videos
            self.video_token()
        outputs, tokens = FEATURES["videos"].features(
            self, {**inputs, "video_token_index": video_token_index}, **kwargs
        )
        return FilaImageFeatures(**{**(outputs or {}), "pooler_output": tokens}, in_runs=True)

    def _placed(
        self, tokens: torch.Tensor, view_positions: PerImage | None, num_views: Sequence[int], chunk: slice
    ) -> torch.Tensor:
        """Add slice positions, if the model has them, to the tokens `(T, N, M)` of a chunk of views."""
        if (self.slice_positions is None) != (view_positions is None):
            holder, other = ("model", "processor") if view_positions is None else ("processor", "model")
            raise ValueError(
                f"The {holder} has slice positions and the {other} has none: set both the config's `slice_positions` "
                "and `slice_positions` of the processor's layout, or neither."
            )
        if self.slice_positions is None or view_positions is None:
            return tokens
        places = [torch.as_tensor(found)[:count] for found, count in zip(view_positions, num_views, strict=True)]
        placed: torch.Tensor = self.slice_positions(tokens, torch.cat(places)[chunk])
        return placed

    @torch.compiler.disable  # as `get_image_features`
    def get_placeholder_mask(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor,
        image_features: list[torch.Tensor],
        *,
        pre_encoded: bool = False,
        in_runs: bool = False,
        noun: str = "image",
    ) -> torch.Tensor:
        """Find the placeholders and check, image by image, that their number equals that of the image tokens.

        Args:
            input_ids: `(B, L)`, or `None` if the caller computed `inputs_embeds`.
            inputs_embeds: `(B, L, M)`.
            image_features: One `(N_i, M)` per image.
            pre_encoded: Whether the features were encoded before. A single block of such features may be a part of
                one or several images (chunked prefill).
            in_runs: Whether text may separate the placeholders of one image.
            noun: Kind of the placeholders: "image" or "video".

        Returns:
            `(B, L, 1)` bool.

        Raises:
            ValueError: If placeholders and image tokens do not pair up.
        """
        token_id = self.video_token() if noun == "video" else self.config.image_token_id
        placeholders = self.find_placeholders(token_id, input_ids, inputs_embeds)
        lengths = [features.shape[0] for features in image_features]
        if is_torchdynamo_compiling() or (pre_encoded and len(lengths) == 1):
            torch_compilable_check(
                placeholders.sum() == sum(lengths),
                lambda: (
                    f"The batch has {int(placeholders.sum())} placeholders but {sum(lengths)} {noun} tokens. "
                    f"{CACHED.format(noun=noun)}"
                ),
            )
        else:
            images_per_sample(placeholders, lengths, contiguous=not in_runs, noun=noun)
        return placeholders.unsqueeze(-1).to(inputs_embeds.device)

    def _embedded(self, input_ids: torch.Tensor | None) -> torch.Tensor:
        """Embed ids `(B, L)`; on the CPU, where torch detects an id without a row, the error names the cause."""
        embed: Any = self.get_input_embeddings()
        if is_torchdynamo_compiling():
            return embed(input_ids)
        try:
            return embed(input_ids)
        except IndexError as error:
            ids = cast(torch.Tensor, input_ids)
            rows, low, high = embed.weight.shape[0], int(ids.min()), int(ids.max())
            raise ValueError(
                f"`input_ids` must be in 0..{rows - 1}, the rows of the embedding; got {low}..{high}. Load "
                "the processor and the model from one folder."
            ) from error

    def find_placeholders(
        self, token_id: int, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
    ) -> torch.Tensor:
        """Return `(B, L)` bool: true where the ids `(B, L)`, or else the embeddings `(B, L, M)`, are the token's."""
        if input_ids is not None:
            return input_ids == token_id
        assert inputs_embeds is not None
        token = torch.full((), token_id, dtype=torch.long, device=inputs_embeds.device)
        found: torch.Tensor = (inputs_embeds == self.get_input_embeddings()(token)).all(-1)
        return found

    def _refuse_bare_placeholders(
        self, input_ids: torch.Tensor, cache: Cache | None, *, images: object, videos: object
    ) -> None:
        """Reject placeholders of images or videos that were not passed, with a `ValueError`.

        A filled cache may hold the rest of these images. A compiled graph cannot read how full the cache is.
        """
        compiling = is_torchdynamo_compiling()
        if cache is not None and (compiling or cache.get_seq_length() > 0):
            return
        if not compiling and input_ids.is_cuda and torch.cuda.is_current_stream_capturing():
            return  # values cannot be read there
        config = self.config
        for name, token_id, given in (
            ("image", config.image_token_id, images),
            ("video", config.video_token_id, videos),
        ):
            if given is None and token_id is not None and input_ids.device.type != "meta":
                torch_compilable_check(
                    (input_ids != token_id).all(),
                    f"`input_ids` hold placeholders of {name}s (id {token_id}), but no {name} was passed. Pass all "
                    "that the processor returns. In an answer, a model generated them: the `suppress_tokens` of its "
                    "generation config should prevent that; drop the answer.",
                )

    @torch.compiler.disable  # as `get_image_features`
    def _filled(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor,
        encoded: BaseModelOutputWithPooling,
        *,
        pre_encoded: bool,
        noun: str,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Replace the placeholders with the tokens of images or of videos.

        Returns:
            Embeddings `(B, L, M)`, the tokens `(N, M)` that were inserted, and where, `(B, L, 1)` bool.
        """
        tokens = list(cast("list[torch.Tensor]", encoded.pooler_output))
        in_runs = noun == "video" or bool(getattr(encoded, "in_runs", None))
        mask = self.get_placeholder_mask(
            input_ids, inputs_embeds, tokens, pre_encoded=pre_encoded, in_runs=in_runs, noun=noun
        )
        features = torch.cat(tokens).to(inputs_embeds.device, inputs_embeds.dtype)
        return inputs_embeds.masked_scatter(mask, features), features, mask

    def video_token(self) -> int:
        """Return the placeholder id of videos.

        Raises:
            ValueError: If the model has none.
        """
        token_id: int | None = self.config.video_token_id
        if token_id is None:
            raise ValueError(
                "`pixel_values_videos` were passed to a model without a video placeholder. Set `video_token_id` in "
                "its config to the id that the processor writes for a video token."
            )
        return token_id

    def shared_position_ids(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return positions `(B, L)` of a sequence from its start, for a model with `shared_positions`."""
        placeholders = self.find_placeholders(self.config.image_token_id, input_ids, inputs_embeds)
        if self.config.video_token_id is not None:
            placeholders = placeholders | self.find_placeholders(self.config.video_token_id, input_ids, inputs_embeds)
        mask = attention_mask if attention_mask is not None and attention_mask.shape == placeholders.shape else None
        positions: torch.Tensor = FEATURES["shared_positions"](placeholders, mask)
        return positions

    def _touch_vision_parameters(self, inputs_embeds: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """Encode one black view for a batch without images if other processes or the optimiser need the vision part.

        In data-parallel training every trained parameter must get a gradient, here zero, or training stops with an
        error. With sharded vision weights every process must run the same modules, or the others wait for ever, in
        evaluation and with frozen weights too. Only later steps of generation, which have a cache, run the language
        model alone on every process. Videos cannot replace images here: they use neither newline nor slice positions,
        and they are encoded in a call of their own.
        """
        vision = [part for part in (self.vision_tower, self.multi_modal_projector, self.injection) if part is not None]
        trains = self.training and torch.is_grad_enabled()
        if not (trains and any(weight.requires_grad for part in vision for weight in part.parameters())):
            # check the cache last: a static cache returns a tensor, which breaks a compiled graph
            sharded = any(is_sharded(part) for part in vision)
            if not sharded or (cache is not None and cache.get_seq_length() > 0):
                return inputs_embeds
        side, high_res_side = self.config.tile_size or 0, self.config.high_res_tile_size or 0
        images: dict[str, torch.Tensor | None] = {
            "pixel_values": inputs_embeds.new_zeros(1, 1, 3, side, side),
            "view_boxes": torch.tensor([[[0, 0, side, side]]]),
            "tile_grid": torch.tensor([[1, 1]]),
            "high_res_pixel_values": inputs_embeds.new_zeros(1, 3, high_res_side, high_res_side),
            "high_res_sizes": torch.tensor([[high_res_side, high_res_side]]),
        }
        if self.slice_positions is not None:
            images["view_positions"] = torch.full((1, 1, 2), -1)
        if self.image_newline is not None or self.view_separator is not None:
            learned = (NEWLINE, self.image_newline), (SEPARATOR, self.view_separator)
            images["image_token_index"] = torch.tensor([[0, *(n for n, vector in learned if vector is not None)]])
        outputs = self.get_image_features(**images, return_dict=True)
        for (features,) in (outputs.pooler_output, *(getattr(outputs, "deepstack_features", None) or ())):
            inputs_embeds = inputs_embeds + features[:0].sum().to(inputs_embeds)  # zero, even if one is not finite
        return inputs_embeds

    @merge_with_config_defaults
    @can_return_tuple
    def forward(  # type: ignore[misc]
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: PerImage | None = None,
        view_boxes: PerImage | None = None,
        tile_grid: PerImage | None = None,
        high_res_pixel_values: PerImage | None = None,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
        image_token_index: PerImage | None = None,
        view_positions: PerImage | None = None,
        pixel_values_videos: PerImage | None = None,
        video_view_boxes: PerImage | None = None,
        video_tile_grid: PerImage | None = None,
        video_high_res_pixel_values: PerImage | None = None,
        video_high_res_sizes: PerImage | None = None,
        video_patch_grids: PerImage | None = None,
        video_token_index: PerImage | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        cache: Cache | None = None,
        image_position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | FilaModelOutputWithPast:
        """Run the model. Image inputs are those of `get_image_features`, the others those of transformers' decoders.

        1. Embed the ids.
        2. Encode the images and the videos that were not encoded before.
        3. Replace their placeholders, image by image.
        4. Run the language model.

        Args:
            mm_token_type_ids: Accepted because the processor can return it; not used, the placeholders suffice.
            mm_encoder_outputs: `{"image": output of get_image_features}` if the images were encoded before.
            cache: Keys and values of earlier tokens; `past_key_values` is the older name.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, if images are given twice, if
                placeholders and image tokens do not pair up (each placeholder needs an image, unless a cache holds
                the beginning of the text), or if several samples share a row and would read each other (see
                `modeling_packed_rows.py`).
        """
        if (input_ids is None) == (inputs_embeds is None):
            lost = (
                ""
                if input_ids is not None
                else " A batch that has neither was not made by the processor: give `Trainer` "
                "`data_collator=FilaCollator(processor)`, and its arguments `remove_unused_columns=False`."
            )
            raise ValueError(f"Exactly one of `input_ids` and `inputs_embeds` must be given.{lost}")
        cache_argument = named_cache(cache, past_key_values)
        (cache,) = cache_argument.values()
        encoded = (mm_encoder_outputs or {}).get("image")
        encoded_videos = (mm_encoder_outputs or {}).get("video")
        if pixel_values is not None and encoded is not None:
            raise ValueError("`pixel_values` and `mm_encoder_outputs` both hold the images; pass one of them.")
        if pixel_values_videos is not None and encoded_videos is not None:
            raise ValueError("`pixel_values_videos` and `mm_encoder_outputs` both hold the videos; pass one.")
        if is_packed(position_ids, attention_mask, self.language_model.config._attn_implementation):
            given = {
                "attention_mask": attention_mask is not None,
                CACHE_NAME: cache is not None,
                "use_cache": bool(use_cache),
            }
            check_packed(
                self.language_model,
                shared=self.config.shared_positions,
                rows=len(cast(torch.Tensor, position_ids)),
                **given,
            )
            use_cache = False  # the language model would create a cache, and then not look for borders of samples

        # 1. Embed the ids.
        if inputs_embeds is None:
            inputs_embeds = self._embedded(input_ids)
        if self.config.shared_positions:
            if position_ids is not None and position_ids.ndim == 3:  # vLLM's, three rows that are equal
                position_ids = position_ids[0]  # type: ignore[assignment]
            if position_ids is None:
                _refuse_filled(cache)
                position_ids = self.shared_position_ids(input_ids, attention_mask, inputs_embeds)  # type: ignore[assignment]
            if attention_mask is None and cache is None:
                # without a mask transformers would read repeated positions as borders of packed sequences
                attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)

        # 2. Encode the images and the videos that were not encoded before.
        pre_encoded, pre_encoded_videos = encoded is not None, encoded_videos is not None
        if pixel_values is not None and len(pixel_values) > 0:
            encoded = self.get_image_features(
                pixel_values=pixel_values,
                view_boxes=view_boxes,
                tile_grid=tile_grid,
                high_res_pixel_values=high_res_pixel_values,
                high_res_sizes=high_res_sizes,
                patch_grids=patch_grids,
                image_token_index=image_token_index,
                view_positions=view_positions,
                image_position_ids=image_position_ids,
                return_dict=True,
            )
        if pixel_values_videos is not None and len(pixel_values_videos) > 0:
            encoded_videos = self.get_video_features(
                pixel_values_videos=pixel_values_videos,
                video_view_boxes=video_view_boxes,
                video_tile_grid=video_tile_grid,
                video_high_res_pixel_values=video_high_res_pixel_values,
                video_high_res_sizes=video_high_res_sizes,
                video_patch_grids=video_patch_grids,
                video_token_index=video_token_index,
                return_dict=True,
            )

        # 3. Replace their placeholders, image by image.
        gaps = getattr(encoded, "gaps", None)
        if gaps is not None or hasattr(cache, "position_offset"):
            places = self.find_placeholders(self.config.image_token_id, input_ids, inputs_embeds)
            position_ids, attention_mask = FEATURES["pruning"].positions_and_mask(
                self.language_model, places, gaps, position_ids, attention_mask, cache
            )
        if input_ids is not None:
            self._refuse_bare_placeholders(input_ids, cache, images=encoded, videos=encoded_videos)
        image_features, placeholders = None, None
        if encoded is not None:
            inputs_embeds, image_features, placeholders = self._filled(
                input_ids, inputs_embeds, encoded, pre_encoded=pre_encoded, noun="image"
            )
        if encoded_videos is not None:
            inputs_embeds, _, _ = self._filled(
                input_ids, inputs_embeds, encoded_videos, pre_encoded=pre_encoded_videos, noun="video"
            )
        of_images_alone = any(
            part is not None for part in (self.image_newline, self.view_separator, self.slice_positions)
        )
        if encoded is None and (encoded_videos is None or of_images_alone or is_sharded(self.vision_tower)):
            inputs_embeds = self._touch_vision_parameters(inputs_embeds, cache)

        # 4. Run the language model.
        run: Any = self.language_model
        if self.injection is not None and encoded is not None:
            run = partial(self.injection.run, self.language_model, placeholders, encoded)
        outputs = run(
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **cache_argument,
            **kwargs,
        )
        if gaps is not None:
            FEATURES["pruning"].keep_offset(getattr(outputs, CACHE_NAME, None), position_ids)
        return FilaModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=image_features,
            image_outputs=encoded,
            video_outputs=encoded_videos,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME, None)},
        )


class FilaForConditionalGeneration(FilaPreTrainedModel, GenerationMixin):
    """[`FilaModel`] with a language-model head. It generates text about images."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012
    _tp_plan = {"lm_head": "colwise_gather_output"}  # noqa: RUF012
    _pp_plan: dict[str, Any] = {"lm_head": (["hidden_states"], ["logits"])}  # noqa: RUF012
    _fsdp_plan = {"lm_head": "keep_full_weight"}  # noqa: RUF012

    def __init__(self, config: FilaConfig) -> None:
        super().__init__(config)
        self.model = FilaModel(config)
        self._can_compile_fullgraph = self.model._can_compile_fullgraph
        self.causal_head = CausalHead(config.text_config)
        self.lm_head = nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=self.causal_head.bias
        )
        self.post_init()

    @property
    def generation_config(self) -> GenerationConfig:
        """Settings of `generate`; any config that is set also suppresses the placeholders."""
        config: GenerationConfig = self._generation_config
        return config

    @generation_config.setter
    def generation_config(self, generation_config: GenerationConfig) -> None:
        if generation_config is not None:
            suppressed = {*(generation_config.suppress_tokens or ()), *self.config.placeholder_ids()}
            generation_config.suppress_tokens = sorted(suppressed)
        self._generation_config = generation_config

    def get_output_embeddings(self) -> nn.Module:
        """Return the language-model head."""
        return self.lm_head

    @merge_with_config_defaults
    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: PerImage,
        view_boxes: PerImage | None = None,
        tile_grid: PerImage | None = None,
        high_res_pixel_values: PerImage | None = None,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
        image_token_index: PerImage | None = None,
        view_positions: PerImage | None = None,
        image_position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode images into image tokens; see [`FilaModel.get_image_features`]."""
        return self.model.get_image_features(
            pixel_values=pixel_values,
            view_boxes=view_boxes,
            tile_grid=tile_grid,
            high_res_pixel_values=high_res_pixel_values,
            high_res_sizes=high_res_sizes,
            patch_grids=patch_grids,
            image_token_index=image_token_index,
            view_positions=view_positions,
            image_position_ids=image_position_ids,
            **kwargs,
        )

    @merge_with_config_defaults
    @can_return_tuple
    def forward(  # type: ignore[misc]
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: PerImage | None = None,
        view_boxes: PerImage | None = None,
        tile_grid: PerImage | None = None,
        high_res_pixel_values: PerImage | None = None,
        high_res_sizes: PerImage | None = None,
        patch_grids: PerImage | None = None,
        image_token_index: PerImage | None = None,
        view_positions: PerImage | None = None,
        pixel_values_videos: PerImage | None = None,
        video_view_boxes: PerImage | None = None,
        video_tile_grid: PerImage | None = None,
        video_high_res_pixel_values: PerImage | None = None,
        video_high_res_sizes: PerImage | None = None,
        video_patch_grids: PerImage | None = None,
        video_token_index: PerImage | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_token_type_ids: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        cache: Cache | None = None,
        image_position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | FilaCausalLMOutputWithPast:
        """Run the model and the head; see [`FilaModel.forward`].

        Args:
            labels: `(B, L)` int, the ids to predict; -100 is ignored.
            logits_to_keep: Number of last positions whose logits are computed (0: all), or a tensor of positions.
        """
        if "loss_weight" in kwargs:
            raise ValueError("`loss_weight` is for FilaTrainer, which weights the loss; the model itself does not.")
        outputs = self.model(
            input_ids,
            pixel_values=pixel_values,
            view_boxes=view_boxes,
            tile_grid=tile_grid,
            high_res_pixel_values=high_res_pixel_values,
            high_res_sizes=high_res_sizes,
            patch_grids=patch_grids,
            image_token_index=image_token_index,
            view_positions=view_positions,
            pixel_values_videos=pixel_values_videos,
            video_view_boxes=video_view_boxes,
            video_tile_grid=video_tile_grid,
            video_high_res_pixel_values=video_high_res_pixel_values,
            video_high_res_sizes=video_high_res_sizes,
            video_patch_grids=video_patch_grids,
            video_token_index=video_token_index,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mm_token_type_ids=mm_token_type_ids,
            mm_encoder_outputs=mm_encoder_outputs,
            image_position_ids=image_position_ids,
            cache=cache,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept, :])
        if self.causal_head.changes_logits:
            logits = self.causal_head(logits)
        loss = None
        if labels is not None:
            self.causal_head.check_loss()
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs)
        return FilaCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
            image_outputs=outputs.image_outputs,
            video_outputs=outputs.video_outputs,
            **{CACHE_NAME: getattr(outputs, CACHE_NAME, None)},
        )

    @merge_with_config_defaults
    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: PerImage,
        video_view_boxes: PerImage | None = None,
        video_tile_grid: PerImage | None = None,
        video_high_res_pixel_values: PerImage | None = None,
        video_high_res_sizes: PerImage | None = None,
        video_patch_grids: PerImage | None = None,
        video_token_index: PerImage | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Any, ...] | BaseModelOutputWithPooling:
        """Encode videos into tokens; see [`FilaModel.get_video_features`]."""
        return self.model.get_video_features(
            pixel_values_videos=pixel_values_videos,
            video_view_boxes=video_view_boxes,
            video_tile_grid=video_tile_grid,
            video_high_res_pixel_values=video_high_res_pixel_values,
            video_high_res_sizes=video_high_res_sizes,
            video_patch_grids=video_patch_grids,
            video_token_index=video_token_index,
            **kwargs,
        )

    def _prepare_position_ids_for_generation(
        self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]
    ) -> torch.Tensor:
        """Return position ids for the whole prompt, also if the cache holds its first tokens."""
        if self.config.shared_positions:
            ids, embeds = model_kwargs.get("input_ids", inputs_tensor), None
            if ids.is_floating_point() or not ids.shape[1]:  # the prompt was passed as embeddings
                ids, embeds = None, model_kwargs.get("inputs_embeds", inputs_tensor)
            mask = model_kwargs.get("attention_mask")
            shared = self.model.shared_position_ids(ids, mask, embeds)
            if mask is not None and mask.shape[-1] > shared.shape[1]:
                _refuse_filled(model_kwargs.get(CACHE_NAME))
            if shared.shape[1]:
                return shared
        positions: torch.Tensor = super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)
        cache = model_kwargs.get(CACHE_NAME)
        if (gaps := self._gaps(model_kwargs)) is not None or hasattr(cache, "position_offset"):
            ids, embeds = model_kwargs.get("input_ids", inputs_tensor), None
            if ids.is_floating_point() or not ids.shape[1]:
                ids, embeds = None, model_kwargs.get("inputs_embeds", inputs_tensor)
            placeholders = self.model.find_placeholders(self.config.image_token_id, ids, embeds)
            positions = FEATURES["pruning"].of_prompt(positions, placeholders, gaps, cache)
        return positions

    def _gaps(self, inputs: dict[str, Any]) -> list[torch.Tensor] | None:
        """Return how many tokens pruning left out behind each placeholder of the images in `inputs`."""
        if (index := inputs.get("image_token_index")) is not None:
            return self.model.gaps(index)
        encoded = (inputs.get("mm_encoder_outputs") or {}).get("image")
        gaps: list[torch.Tensor] | None = getattr(encoded, "gaps", None)
        return gaps

    def _supports_mm_encoder_outputs(self) -> bool:
        """Return whether `generate` may encode the images before the first forward pass.

        The forward pass of the whole model gathers sharded weights, so images are encoded inside it then.
        """
        return not is_sharded(self)

    def _image_lengths(self, inputs: dict[str, Any]) -> list[int]:
        """Return the number of placeholders of each image."""
        if (index := inputs.get("image_token_index")) is not None:
            return [int(has_placeholder(torch.as_tensor(row)).sum()) for row in index]
        num_views = [len(boxes) for boxes in real_view_boxes(inputs["view_boxes"])]
        if (patch_grids := inputs.get("patch_grids")) is None:
            return [count * self.model.tokens_per_tile for count in num_views]
        return [
            sum(_tokens_of_views(self.model.multi_modal_projector, self.model.vision_tower.grid_of(grids[:count])))
            for grids, count in zip(patch_grids, num_views, strict=True)
        ]

    def _rows_of_samples(
        self, input_ids: torch.Tensor | None, inputs: dict[str, Any]
    ) -> Iterator[tuple[tuple[str, ...], list[int], list[int], torch.Tensor]]:
        """Yield the pairing of rows with samples, for the images and for the videos in `inputs`.

        Yields:
            Names of the inputs with one row per image; images per sample; image tokens of each image; `(B, L)` bool,
            true at their placeholders.
        """
        embeds = inputs.get("inputs_embeds")
        ids = input_ids if embeds is None else None
        if inputs.get("pixel_values") is not None:
            in_runs = inputs.get("image_token_index") is not None
            lengths = self._image_lengths(inputs)
            placeholders = self.model.find_placeholders(self.config.image_token_id, ids, embeds)
            yield IMAGE_INPUTS, images_per_sample(placeholders, lengths, contiguous=not in_runs), lengths, placeholders
        if inputs.get("pixel_values_videos") is not None:
            lengths = FEATURES["videos"].lengths(self.model.multi_modal_projector, self.model.vision_tower, inputs)
            placeholders = self.model.find_placeholders(self.model.video_token(), ids, embeds)
            counts = images_per_sample(placeholders, lengths, contiguous=False, noun="video")
            yield (*VIDEO_INPUTS.values(), "video_token_index"), counts, lengths, placeholders

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Continue prompts, see `GenerationMixin.generate`.

        With a cache that is kept over turns, pass the whole conversation with all its images: images in the cache
        are not encoded again.
        """
        if (integers := kwargs.pop("image_position_ids", None)) is not None:
            kwargs |= _unpacked(kwargs.pop("pixel_values"), integers)
        config = kwargs.get("generation_config") or self.generation_config
        chunked = kwargs.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None)
        encodes_first = hasattr(GenerationMixin, "_supports_mm_encoder_outputs")
        if chunked and kwargs.get("pixel_values") is not None and not encodes_first:
            raise ValueError(
                "`prefill_chunk_size` cannot go with images on this version of transformers, which does not encode "
                "them before the prompt is cut. Leave it out, or install a newer version."
            )
        ids = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
        return super().generate(*args, **self._without_cached_images(ids, kwargs))  # type: ignore[misc]

    def prepare_inputs_for_generation(
        self, *args: Any, inputs_embeds: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Choose the inputs of a step, see `GenerationMixin.prepare_inputs_for_generation`.

        In assisted generation transformers does not pass the images to the assistant model. We pass it `inputs_embeds`
        instead of `input_ids`, because the check for placeholders without images reads only `input_ids`.

        Args:
            inputs_embeds: A named parameter, because `generate` looks for the name in the signature.
        """
        kwargs["inputs_embeds"] = inputs_embeds
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]
        ids, cache = inputs.get("input_ids"), kwargs.get(CACHE_NAME)
        is_draft = cache is not None and not kwargs.get("is_first_iteration") and cache.get_seq_length() == 0
        if is_draft and ids is not None and ids.shape[1] > 1:
            inputs |= {"input_ids": None, "inputs_embeds": self.get_input_embeddings()(ids)}
        return inputs

    def _without_cached_images(self, input_ids: torch.Tensor | None, inputs: dict[str, Any]) -> dict[str, Any]:
        (cache,) = named_cache(inputs.get("cache"), inputs.get("past_key_values")).values()
        mask = inputs.get("attention_mask")
        num_cached = int(cache.get_seq_length()) if isinstance(cache, Cache) else 0
        sequence = inputs["inputs_embeds"] if inputs.get("inputs_embeds") is not None else input_ids
        # as in transformers: ids shorter than their mask are the new tokens only
        if num_cached == 0 or sequence is None or (mask is not None and mask.shape[1] != sequence.shape[1]):
            return inputs
        inputs = dict(inputs)
        if inputs.get("position_ids") is None and self._gaps(inputs) is not None:
            given = {"attention_mask": torch.ones(sequence.shape[:2]), **inputs}
            inputs["position_ids"] = self._prepare_position_ids_for_generation(sequence, given)
        for names, counts, lengths, placeholders in [*self._rows_of_samples(input_ids, inputs)]:
            noun = "video" if "pixel_values_videos" in names else "image"
            inputs |= take_rows(inputs, names, uncached_rows(placeholders, lengths, counts, num_cached, noun))
        return inputs

    def generate_batch(self, inputs: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        """Continue text prompts with continuous batching, see `ContinuousMixin.generate_batch`.

        Raises:
            ValueError: If a prompt holds placeholders: continuous batching takes ids, but no images.
        """
        for number, prompt in enumerate(inputs):
            if not set(self.config.placeholder_ids()).isdisjoint(map(int, prompt)):
                raise ValueError(
                    f"`generate_batch` takes text alone, and prompt {number} holds placeholders of images or videos. "
                    "Use `generate` with everything that the processor returns."
                )
        return super().generate_batch(inputs, *args, **kwargs)

    def _expand_inputs_for_generation(  # type: ignore[override]
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.LongTensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[torch.LongTensor, dict[str, Any]]:
        """Repeat each sample for beams or several returned sequences.

        Newer transformers encode the images first and repeat each sample's image tokens as a block. Older versions
        repeat every tensor row by row, which gives sample 0 the images A A B B instead of A B A B; for these versions
        this method repeats whole blocks.
        """
        if (model_kwargs.get("mm_encoder_outputs") or {}).get("video") is not None:
            self.model.video_token()  # otherwise transformers looks for the token None
        if expand_size > 1 and input_ids is not None:
            repeated: dict[str, Any] = {}
            for names, counts, _, _ in [*self._rows_of_samples(input_ids, model_kwargs)]:
                repeated |= take_rows(model_kwargs, names, repeated_rows(counts, expand_size))
            input_ids, model_kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
                expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
            )
            return input_ids, model_kwargs | repeated
        return super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )


def _unpacked(pixel_values: torch.Tensor, image_position_ids: torch.Tensor) -> dict[str, Any]:
    """Return the image inputs that a processor with `packed_images` wrote into two tensors."""
    if "packed_images" not in FEATURES:
        raise ValueError(
            "The code beside this checkpoint does not read packed images, of which `image_position_ids` are a part. "
            "Install the `fila` package, import it, and load the checkpoint again."
        )
    inputs: dict[str, Any] = FEATURES["packed_images"](pixel_values, image_position_ids)
    return inputs


def _refuse_filled(cache: Cache | None) -> None:
    """Refuse a non-empty cache when `position_ids` are missing: the positions of the cached tokens are unknown."""
    if cache is not None and (length := cache.get_seq_length()) > 0:
        raise ValueError(
            f"A model with `shared_positions` needs `position_ids` beside a cache of {length} tokens, which does not "
            "tell how many positions their images and videos took. Count on from the last one, as `generate` does."
        )


def _tokens_of_views(connector: Connector, grids: torch.Tensor) -> list[int]:
    """Return the number of image tokens of each view whose features have these grids."""
    return [connector.tokens_per_tile((rows, cols)) for rows, cols in grids.tolist()]


__all__ = ["FilaForConditionalGeneration", "FilaModel", "FilaPreTrainedModel", "FilaVisionModel"]
