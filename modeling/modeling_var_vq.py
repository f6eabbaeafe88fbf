# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""VAR's tokenizer: encode an image as ids of growing grids, and decode any prefix of the scales to an image.

Paper: Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
arXiv:2404.02905. Code: FoundationVision/VAR @ 78b9539, `models/vqvae.py`.

    image in -1..1 -> encoder -> quant_conv -> quantiser -> post_quant_conv -> decoder -> image

Deviations: none in the arithmetic. The loss that trains it is not in the released code (`fila.training.tokenizer`).

Shapes: B images, (H, W) pixels, D code size, (h, w) of the quantised map, K scales, (h_k, w_k) grid of scale k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_var import VarVQConfig
from .module_layers import layers_of
from .var_autoencoder import Decoder, Encoder
from .var_quantizer import FilaMultiScaleQuantizer, PatchNums


@dataclass
class VarVQOutput(ModelOutput):
    """Output of [`VarVQModel`].

    Args:
        loss (`torch.Tensor` of shape `(1,)`):
            Quantisation loss: codebook and commitment, without the reconstruction.
        reconstruction (`torch.Tensor` of shape `(B, 3, H, W)`):
            The image decoded from all scales, not clamped.
        image_ids (`tuple` of `torch.Tensor` of shape `(B, h_k w_k)`):
            Ids of each scale.
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    image_ids: tuple[torch.Tensor, ...] | None = None


class VarPreTrainedModel(PreTrainedModel):
    """Base class of the tokenizer and the transformer."""

    config_class: type[PreTrainedConfig] = VarVQConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities: tuple[str, ...] = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules: list[str] | set[str] = ["ResidualBlock", "MapAttention"]  # noqa: RUF012

    def post_init(self) -> None:
        """Run transformers' `post_init`, then collect `_no_split_modules` from the parts that this model contains."""
        super().post_init()
        self._no_split_modules = layers_of(self)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Keep transformers from skipping the init rules of modules without parameters, as the quantiser's."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5  # torch's own initialisation
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.Embedding):
            pass  # the owner initialises them
        elif callable(initialise := getattr(module, "set_initial_weights", None)):
            initialise(self.config.initializer_range)
        else:
            super()._init_weights(module)


class VarVQModel(VarPreTrainedModel):
    """Image tokenizer with one codebook for all scales."""

    config: VarVQConfig

    def __init__(self, config: VarVQConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = FilaMultiScaleQuantizer(
            config.codebook_size,
            config.code_size,
            config.patch_nums,
            num_phis=config.num_phis,
            phi_ratio=config.phi_ratio,
            normalize_codes=config.normalize_codes,
            commitment=config.commitment,
        )
        self.quant_conv = nn.Conv2d(config.code_size, config.code_size, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(config.code_size, config.code_size, 3, padding=1)
        self.post_init()

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Encode `(B, 3, H, W)` in -1..1 to the features `(B, D, h, w)` before quantisation.

        Raises:
            ValueError: If the sides are not multiples of the encoder's downsampling.
        """
        step = self.config.downsampling
        if pixel_values.shape[-2] % step or pixel_values.shape[-1] % step:
            raise ValueError(
                f"Height and width must be multiples of {step}, the encoder's downsampling; got "
                f"{tuple(pixel_values.shape[-2:])}."
            )
        quantised: torch.Tensor = self.quant_conv(self.encoder(pixel_values.to(self.quant_conv.weight.dtype)))
        return quantised

    @torch.no_grad()
    def encode(
        self, pixel_values: torch.Tensor, *, patch_nums: PatchNums | None = None, num_scales: int | None = None
    ) -> list[torch.Tensor]:
        """Return the ids of an image.

        Args:
            pixel_values: `(B, 3, H, W)` in -1..1.
            patch_nums: Scales in place of the config's, for images of other sizes: numbers or (rows, cols); the last
                is (H, W) / downsampling.
            num_scales: Number of scales to encode; all by default.

        Returns:
            One `(B, h_k w_k)` int64 per scale.

        Raises:
            ValueError: If the last scale does not have the size of the image's map.
        """
        features = self.features(pixel_values)
        return self.quantize.encode(features, patch_nums=patch_nums, num_scales=num_scales)[0]

    def draw(self, fhat: torch.Tensor) -> torch.Tensor:
        """Decode features `(B, D, h, w) -> (B, 3, H, W)`, not clamped."""
        images: torch.Tensor = self.decoder(self.post_quant_conv(fhat))
        return images

    @torch.no_grad()
    def decode(
        self, image_ids: Sequence[torch.Tensor], *, patch_nums: PatchNums | None = None, full_size: bool = True
    ) -> torch.Tensor:
        """Decode ids to an image.

        Args:
            image_ids: Ids of all scales or of the first ones.
            patch_nums: Scales of the ids, if not the config's.
            full_size: Draw at the full size for any number of scales; otherwise at the size of the last given scale.

        Returns:
            `(B, 3, H, W)` in -1..1.
        """
        maps = self.quantize.decode(image_ids, patch_nums=patch_nums, full_size=full_size)
        return self.draw(maps[-1]).clamp(-1, 1)

    @torch.no_grad()
    def reconstruct(
        self, pixel_values: torch.Tensor, *, patch_nums: PatchNums | None = None, every_scale: bool = False
    ) -> list[torch.Tensor]:
        """Encode and decode an image.

        Returns:
            `(B, 3, H, W)` in -1..1, decoded from all scales; with `every_scale` one for each prefix of the scales.
        """
        maps = self.quantize.encode(self.features(pixel_values), patch_nums=patch_nums)[1]
        return [self.draw(fhat).clamp(-1, 1) for fhat in (maps if every_scale else maps[-1:])]

    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> VarVQOutput:
        """Reconstruct images with gradients.

        Args:
            pixel_values: `(B, 3, H, W)` in -1..1.
            kwargs: Arguments of transformers.

        Returns:
            [`VarVQOutput`].
        """
        quantised = self.quantize(self.features(pixel_values))
        return VarVQOutput(
            loss=quantised.loss, reconstruction=self.draw(quantised.features), image_ids=tuple(quantised.ids)
        )


__all__ = ["VarPreTrainedModel", "VarVQModel", "VarVQOutput"]
