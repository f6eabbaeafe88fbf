# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Configurations of the multi-scale tokenizer and of the next-scale transformer.

Paper: Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
arXiv:2404.02905. Code: FoundationVision/VAR @ 78b9539. The defaults are the released sizes.
"""

from dataclasses import field, fields
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_keys import refuse_unknown_keys
from .configuration_values import refuse_impossible_values

# `save_pretrained` enters only the class that it saved; a machine without `fila` needs all of them.
VQ_AUTO_MAP = {
    "AutoConfig": "configuration_var.VarVQConfig",
    "AutoModel": "modeling_var_vq.VarVQModel",
}
AUTO_MAP = {
    "AutoConfig": "configuration_var.VarConfig",
    "AutoModel": "modeling_var.VarForImageGeneration",
}


def _complete_auto_map(output: dict[str, Any], auto_map: dict[str, str]) -> dict[str, Any]:
    if any(name.startswith("AutoModel") for name in output.get("auto_map") or {}):
        output["auto_map"] = dict(auto_map)
    return output


@strict
class VarVQConfig(PreTrainedConfig):
    r"""Configuration of [`VarVQModel`], an image tokenizer with one codebook for all scales.

    Args:
        image_size (`int`, *optional*, defaults to 256):
            Pixels per side of the images that `patch_nums` fits.
        num_channels (`int`, *optional*, defaults to 3):
            Channels of the images.
        base_channels (`int`, *optional*, defaults to 160):
            Channels of the first level; a multiple of `norm_groups`.
        channel_multipliers (`list[int]`, *optional*, defaults to `[1, 1, 2, 2, 4]`):
            Channels of each level as multiples; each level but the last halves the map.
        num_res_blocks (`int`, *optional*, defaults to 2):
            Residual blocks per level of the encoder; the decoder has one more.
        attention_in_last_level (`bool`, *optional*, defaults to `True`):
            Whether the blocks of the smallest map are followed by attention.
        attention_in_middle (`bool`, *optional*, defaults to `True`):
            Whether there is attention between the two middle blocks.
        norm_groups (`int`, *optional*, defaults to 32):
            Groups of the norms. With one channel per group the norms remove every channel's mean, and so the
            brightness of the image: a small model needs fewer groups.
        dropout (`float`, *optional*, defaults to 0.0):
            Dropout of the residual blocks.
        codebook_size (`int`, *optional*, defaults to 4096):
            Number of codes.
        code_size (`int`, *optional*, defaults to 32):
            Channels of a code and of the map that is quantised.
        patch_nums (`list[int]`, *optional*, defaults to `[1, 2, 3, 4, 5, 6, 8, 10, 13, 16]`):
            Patches per side of each scale; the last is the map's own.
        num_phis (`int`, *optional*, defaults to 4):
            Convolutions after upsampling that the scales share; 1 for all, as many as scales for one each.
        phi_ratio (`float`, *optional*, defaults to 0.5):
            Share of the convolution in phi; 0 leaves it out.
        normalize_codes (`bool`, *optional*, defaults to `False`):
            Whether codes are looked up by direction.
        commitment (`float`, *optional*, defaults to 0.25):
            Weight of the encoder's side of the quantisation loss.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Not used: convolutions start as torch's, codes within 1 / `codebook_size`.

    Raises:
        ValueError: If a key is unknown, a size is below 1, or sizes do not fit each other.
    """

    model_type: ClassVar[str] = "var_vq"

    image_size: int = 256
    num_channels: int = 3
    base_channels: int = 160
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 1, 2, 2, 4])
    num_res_blocks: int = 2
    attention_in_last_level: bool = True
    attention_in_middle: bool = True
    norm_groups: int = 32
    dropout: float = 0.0
    codebook_size: int = 4096
    code_size: int = 32
    patch_nums: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 8, 10, 13, 16])
    num_phis: int = 4
    phi_ratio: float = 0.5
    normalize_codes: bool = False
    commitment: float = 0.25
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: object) -> None:
        refuse_unknown_keys("VarVQConfig", [f.name for f in fields(self)], kwargs)
        refuse_impossible_values("VarVQConfig", self)
        if self.base_channels % self.norm_groups:
            raise ValueError(
                f"`base_channels` must be a multiple of `norm_groups`; got {self.base_channels} and "
                f"{self.norm_groups}."
            )
        if not self.channel_multipliers or not self.patch_nums:
            raise ValueError("`channel_multipliers` and `patch_nums` must not be empty.")
        if self.patch_nums[-1] * self.downsampling != self.image_size:
            raise ValueError(
                f"`patch_nums` must end in `image_size` / {self.downsampling}, the grid of the encoder's map; got "
                f"{self.patch_nums[-1]} and `image_size` {self.image_size}."
            )
        super().__post_init__(**kwargs)

    @property
    def downsampling(self) -> int:
        """Pixels per side of one cell of the quantised map."""
        return 2 ** (len(self.channel_multipliers) - 1)

    @property
    def num_tokens(self) -> int:
        """Number of ids of one image, over all scales."""
        return sum(num**2 for num in self.patch_nums)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON; once a model is saved, the `auto_map` names every class."""
        return _complete_auto_map(super().to_dict(), VQ_AUTO_MAP)


@strict
class VarConfig(PreTrainedConfig):
    r"""Configuration of [`VarForImageGeneration`]: a class-conditional transformer that predicts scale after scale.

    Args:
        vq_config (`dict` or [`VarVQConfig`], *optional*):
            The tokenizer; its patch numbers are the scales that are predicted.
        num_classes (`int`, *optional*, defaults to 1000):
            Classes; one more embedding stands for no class.
        num_hidden_layers (`int`, *optional*, defaults to 16):
            Blocks.
        hidden_size (`int`, *optional*, defaults to 1024):
            Width, 64 per block in the released models.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Heads; as many as blocks in the released models.
        mlp_ratio (`float`, *optional*, defaults to 4.0):
            Width of the hidden layer of the MLP as a multiple.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6):
            Epsilon of the norms, which have no weights.
        shared_adaln (`bool`, *optional*, defaults to `False`):
            Whether one layer makes the modulation of all blocks (`var_d36`).
        normalize_attention (`bool`, *optional*, defaults to `True`):
            Normalise queries and keys and learn a scale per head; otherwise the scale is 0.25 / sqrt(head width).
        class_dropout (`float`, *optional*, defaults to 0.1):
            Share of the labels that training replaces by no class.
        drop_path_rate (`float`, *optional*, defaults to `0.1 * num_hidden_layers / 24`):
            Share of the last block's updates that training drops; the share grows linearly over the blocks.
        initializer_range (`float`, *optional*, defaults to `sqrt(1 / (3 * hidden_size))`):
            Standard deviation of new weights.

    Raises:
        ValueError: If a key is unknown, a size is below 1, or the heads do not divide the width.
        TypeError: If `vq_config` is neither a dict nor a config.
    """

    model_type: ClassVar[str] = "var"
    sub_configs: ClassVar[dict[str, Any]] = {"vq_config": VarVQConfig}

    vq_config: Any = None
    num_classes: int = 1000
    num_hidden_layers: int = 16
    hidden_size: int = 1024
    num_attention_heads: int = 16
    mlp_ratio: float = 4.0
    layer_norm_eps: float = 1e-6
    shared_adaln: bool = False
    normalize_attention: bool = True
    class_dropout: float = 0.1
    drop_path_rate: float | None = None
    initializer_range: float | None = None

    def __post_init__(self, **kwargs: object) -> None:
        refuse_unknown_keys("VarConfig", [f.name for f in fields(self)], kwargs)
        refuse_impossible_values("VarConfig", self)
        if self.vq_config is None:
            self.vq_config = VarVQConfig()
        elif isinstance(self.vq_config, dict):
            self.vq_config = VarVQConfig(**{key: v for key, v in self.vq_config.items() if key != "model_type"})
        elif not isinstance(self.vq_config, PreTrainedConfig):
            raise TypeError(f"`vq_config` must be a dict or a VarVQConfig; got {type(self.vq_config).__name__}.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`num_attention_heads` must divide `hidden_size`; got {self.num_attention_heads} and "
                f"{self.hidden_size}."
            )
        if self.drop_path_rate is None:
            self.drop_path_rate = 0.1 * self.num_hidden_layers / 24
        if self.initializer_range is None:
            self.initializer_range = (1 / (3 * self.hidden_size)) ** 0.5
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON; once a model is saved, the `auto_map` names every class."""
        return _complete_auto_map(super().to_dict(), AUTO_MAP)


__all__ = ["VarConfig", "VarVQConfig"]
