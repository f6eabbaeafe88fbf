# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the pieces that are compared with recorded numbers of the original systems."""

from dataclasses import dataclass

from tests.parity import (
    cogvlm2,
    deepseek_ocr,
    deepseek_vl,
    eagle,
    eagle2,
    granite4,
    internvl,
    leo,
    llava_hr,
    llava_uhd,
    mini_gemini,
    minicpm_v,
    open_autoglm,
    pruning,
    qwen3_vl,
    var,
    videollama2,
)
from tests.parity.golden import Check


@dataclass(frozen=True)
class Piece:
    """One piece of one system.

    Args:
        system: Whose code was recorded.
        piece: What is compared.
        ours: The module of ours, with a name inside it.
        pattern: Which files hold the numbers.
        check: How they are compared.
        tolerance: Largest error that passes, in float32, as a share of the largest recorded value.
    """

    system: str
    piece: str
    ours: str
    pattern: str
    check: Check
    tolerance: float = 1e-5


PIECES = (
    # worst measured: 6.8e-7
    Piece(
        "LLaVA-HR",
        "MR-Adapter",
        "modeling/fusion_mixture_of_resolution.py",
        "llava_hr_mr_adapter*.safetensors",
        llava_hr.adapter,
    ),
    # worst measured: 0
    Piece(
        "LLaVA-HR",
        "final align",
        "modeling/fusion_mixture_of_resolution.py",
        "llava_hr_final_align*.safetensors",
        llava_hr.final_align,
    ),
    # worst measured: 4.9e-7
    Piece(
        "LLaVA-HR",
        "the whole tower, with and without adapters",
        "modeling/tower_clip.py, tower_convnext.py, fusion_mixture_of_resolution.py, high_res_views.py",
        "llava_hr_tower*.safetensors",
        llava_hr.tower,
    ),
    # worst measured: 2.0e-7
    Piece(
        "Mini-Gemini",
        "patch info mining and projector",
        "modeling/fusion_patch_info_mining.py, connector_mlp.py",
        "mgm_patch_info_mining*.safetensors",
        mini_gemini.patch_info_mining,
    ),
    # worst measured: 2.3e-7
    Piece(
        "Mini-Gemini",
        "encode_images, stand-in towers",
        "modeling/fusion_patch_info_mining.py, fusion_align.py",
        "mgm_encode_images*.safetensors",
        mini_gemini.encode_images,
    ),
    # worst measured: 0
    Piece(
        "EAGLE",
        "channel concatenation, stand-in towers",
        "modeling/fusion_channel_concat.py, fusion_align.py",
        "eagle_channel_concat*.safetensors",
        eagle.channel_concat,
    ),
    # worst measured: 1.4e-7
    Piece(
        "EAGLE",
        "SAM's short neck and unshuffle",
        "modeling/tower_sam.py",
        "eagle_sam_short_neck*.safetensors",
        eagle.sam_short_neck,
    ),
    # worst measured: 0
    Piece(
        "EAGLE",
        "Pix2Struct's tokens on the common grid",
        "modeling/fusion_align.py",
        "eagle_pix2struct_resize*.safetensors",
        eagle.pix2struct_resize,
    ),
    # worst measured: 8.0e-7
    Piece(
        "Eagle2, restated",
        "encoder and projector of single tiles, three wirings",
        "modeling/tower_siglip.py, tower_convnext.py, fusion_channel_concat.py, connector_pixel_shuffle.py",
        "eagle2_encoder_tile_*.safetensors",
        eagle2.encoder,
    ),
    # worst measured: see docs/parity.md
    Piece(
        "DeepSeek-VL",
        "hybrid encoder, image tokens and logits",
        "modeling/tower_sam.py, fusion_half_projections.py",
        "deepseek_vl_hybrid*.safetensors",
        deepseek_vl.hybrid,
    ),
    # worst measured: 0
    Piece(
        "DeepSeek-VL",
        "pixels of the square and of the view drawn from it",
        "processing/canvas_redrawn_square.py",
        "deepseek_vl_preprocess*.safetensors",
        deepseek_vl.preprocess,
        tolerance=1e-6,
    ),
    # worst measured: 0
    Piece(
        "LEO",
        "pixel unshuffle of both towers",
        "modeling/connector_pixel_shuffle.py",
        "leo_pixel_unshuffle*.safetensors",
        leo.pixel_unshuffle,
    ),
    # worst measured: 0
    Piece(
        "InternVL",
        "pixel shuffle v1, v2",
        "modeling/connector_pixel_shuffle.py",
        "internvl_pixel_shuffle*.safetensors",
        internvl.shuffle,
    ),
    # worst measured: 0
    Piece(
        "InternVL",
        "projector",
        "modeling/connector_pixel_shuffle.py",
        "internvl_projector*.safetensors",
        internvl.projector,
    ),
    # worst measured: 4.2e-7
    Piece(
        "MiniCPM-V 2.6",
        "resampler",
        "modeling/connector_resampler.py",
        "minicpmv26_resampler*.safetensors",
        minicpm_v.resampler,
    ),
    # worst measured: 0
    Piece(
        "MiniCPM-V 2.6",
        "SigLIP's embeddings of unequal views",
        "modeling/tower_siglip.py, tower_positions.py",
        "minicpmv26_siglip_embeddings*.safetensors",
        minicpm_v.siglip_embeddings,
    ),
    # worst measured: 6.0e-8
    Piece(
        "MiniCPM-V 2.6",
        "positions of the resampler",
        "modeling/connector_sincos.py",
        "minicpmv26_sincos*.safetensors",
        minicpm_v.sincos,
    ),
    # worst measured: 5.0e-7
    Piece(
        "MiniCPM-V 4.6",
        "merger inside the tower and final merger, both modes",
        "modeling/tower_merger.py, connector_merger.py, tower_vit.py",
        "minicpmv46_vision*.safetensors",
        minicpm_v.merger_inside,
    ),
    # worst measured: 2.4e-6
    Piece(
        "LLaVA-UHD v1",
        "adaptive resampler",
        "modeling/connector_adaptive_resampler.py",
        "uhd_v1_adapt_resampler*.safetensors",
        llava_uhd.adaptive_resampler,
    ),
    # worst measured: 0, integers
    Piece(
        "LLaVA-UHD v1",
        "window sizes",
        "modeling/connector_adaptive_resampler.py",
        "uhd_v1_pool_sizes*.json",
        llava_uhd.pool_sizes,
    ),
    # worst measured: 0
    Piece(
        "Open-AutoGLM article",
        "scale_softmax",
        "modeling/fusion_scale_softmax.py",
        "autoglm_seed_values*.safetensors",
        open_autoglm.scale_softmax,
    ),
    # worst measured: 0
    Piece(
        "Open-AutoGLM article",
        "spatial_gate",
        "modeling/fusion_spatial_gate.py",
        "autoglm_seed_values*.safetensors",
        open_autoglm.spatial_gate,
    ),
    # worst measured: 0
    Piece(
        "Open-AutoGLM article",
        "upsample_concat",
        "modeling/fusion_upsample_concat.py",
        "autoglm_seed_values*.safetensors",
        open_autoglm.concat,
    ),
    # worst measured: 2.1e-7; ids equal
    Piece(
        "VAR",
        "multi-scale quantiser",
        "modeling/var_quantizer.py",
        "var_quant_[lzo]*.safetensors",
        var.quantizer,
        tolerance=2e-6,
    ),
    # worst measured: 3.3e-7
    Piece(
        "VAR",
        "loss and gradients of the quantiser",
        "modeling/var_quantizer.py",
        "var_quant_train_*.safetensors",
        var.training,
        tolerance=2e-6,
    ),
    # worst measured: 0
    Piece(
        "VAR",
        "hits of the codes over steps",
        "modeling/var_quantizer.py",
        "var_quant_ema*.safetensors",
        var.hits,
        tolerance=1e-6,
    ),
    # worst measured: 2.0e-6, but 8.3e-5 of images as faint as the norm's epsilon: subtracting a mean of 190 deviations
    # leaves few digits. The recording is 1.5e-5 off float64 there; every operation an ulp off costs 1.2e-4, another
    # epsilon 0.37.
    Piece(
        "VAR",
        "encoder, decoder",
        "modeling/var_autoencoder.py",
        "var_encdec_*.safetensors",
        var.autoencoder,
        tolerance=2e-4,
    ),
    # worst measured: 5.0e-6, an image; ids equal
    Piece(
        "VAR",
        "next-scale transformer, greedy generation",
        "modeling/modeling_var.py, next_scale_block.py",
        "var_transformer_*.safetensors",
        var.transformer,
        tolerance=2e-5,
    ),
    # worst measured: 0
    Piece(
        "VAR",
        "top-k and top-p",
        "modeling/var_sampling.py",
        "var_sampling_filter*.safetensors",
        var.sampling,
    ),
    # worst measured: 2.0e-6
    Piece(
        "VideoLLaMA 2",
        "stc",
        "modeling/connector_stc.py, regstage.py",
        "videollama2_stc_connector*.safetensors",
        videollama2.connector,
    ),
    # worst measured: 6.3e-7
    Piece(
        "VideoLLaMA 2",
        "stp",
        "modeling/connector_stc.py, regstage.py",
        "videollama2_stp_connector*.safetensors",
        videollama2.connector,
    ),
    # worst measured: 2.5e-7
    Piece(
        "VideoLLaMA 2",
        "spatial_conv",
        "modeling/connector_stc.py, regstage.py",
        "videollama2_spatial_conv*.safetensors",
        videollama2.connector,
    ),
    # worst measured: 9.2e-8
    Piece(
        "VideoLLaMA 2",
        "spatial_pool",
        "modeling/connector_stc.py, regstage.py",
        "videollama2_spatial_pool*.safetensors",
        videollama2.connector,
    ),
    # worst measured: 0
    Piece(
        "VideoLLaMA 2",
        "linear over the mean of the frames",
        "modeling/connector_linear.py",
        "videollama2_linear*.safetensors",
        videollama2.projector,
    ),
    # worst measured: 0
    Piece(
        "VideoLLaMA 2",
        "mlp over the mean of the frames",
        "modeling/connector_mlp.py",
        "videollama2_mlp*x_gelu*.safetensors",
        videollama2.projector,
    ),
    # worst measured: 0
    Piece(
        "VideoLLaMA 2",
        "residual block",
        "modeling/connector_mlp.py",
        "videollama2_simple_res_block*.safetensors",
        videollama2.residual_block,
    ),
    # worst measured: 0, integers
    Piece(
        "VideoLLaMA 2",
        "prompts split at images and videos",
        "processing/processing_fila.py",
        "videollama2_tokenizer_split*.safetensors",
        videollama2.tokenizer_split,
    ),
    # worst measured: 0
    Piece(
        "CogVLM2-Video",
        "adapter, as reconstructed",
        "modeling/connector_conv_glu.py",
        "cogvlm2*_adapter_reconstructed*.safetensors",
        cogvlm2.adapter,
    ),
    # worst measured: 1.2e-6
    Piece(
        "DeepSeek-OCR",
        "SAM, CLIP on its map, projector, order of the tokens",
        "modeling/serial_towers.py, tower_sam.py, tower_clip.py, fusion_channel_concat.py",
        "deepseek_ocr_encoder*.safetensors",
        deepseek_ocr.encoder,
    ),
    # worst measured: 3.4e-7
    Piece(
        "Granite 4 Vision",
        "window Q-Former, from the mean and from a corner",
        "modeling/connector_window_qformer.py",
        "granite4_projector*.safetensors",
        granite4.projector,
    ),
    # worst measured: 3.8e-7
    Piece(
        "Granite 4 Vision",
        "streams before layers of the language model",
        "modeling/injection_layers.py",
        "granite4_injection*.safetensors",
        granite4.language_model,
    ),
    # worst measured: 8.8e-7
    Piece(
        "Granite 4 Vision",
        "the whole model: streams, hidden states, logits, answers",
        "modeling/injection_streams.py, modeling_fila.py",
        "granite4_vision*.safetensors",
        granite4.whole_model,
    ),
    # worst measured: 4.8e-7
    Piece(
        "Qwen3-VL",
        "streams between layers of the language model",
        "modeling/injection_layers.py",
        "qwen3_vl_injection*.safetensors",
        qwen3_vl.language_model,
    ),
    # worst measured: 2.6e-7
    Piece(
        "Qwen3-VL",
        "mergers, of the streams and the main one",
        "modeling/connector_merger.py",
        "qwen3_vl_model*.safetensors",
        qwen3_vl.mergers,
    ),
    # worst measured: 0, integers
    Piece(
        "PixelPrune, restated",
        "kept cells of grids of ids",
        "processing/token_pruning.py",
        "pixelprune_exact*.json",
        pruning.grids,
    ),
    # worst measured: 0, integers
    Piece(
        "PixelPrune, restated",
        "kept cells of pixels",
        "processing/token_pruning.py",
        "pixelprune_pixels*.safetensors",
        pruning.pixels,
    ),
    # worst measured: 7.3e-7; indices equal
    Piece(
        "VisionZip, restated",
        "choice and merging, behind transformers' CLIP",
        "modeling/pruning.py",
        "visionzip*.safetensors",
        pruning.visionzip,
    ),
)

# Checks of files that are not here: they run on what FILA_GOLDEN names, and docs/parity.md claims nothing of them.
FURTHER = (
    Piece(
        "VAR",
        "tokenizer",
        "modeling/modeling_var_vq.py",
        "var_vqvae_*.safetensors",
        var.tokenizer,
    ),
)
