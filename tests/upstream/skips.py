# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every reason for which one of transformers' common tests may be skipped on our classes, and why it cannot apply.

A skip that matches no line fails the run. The pattern is searched in "<class>::<test>: <message of the skip>". Skips
that are our own decision begin with `[ours]`; all others are decisions of upstream's tests.
"""

IMAGES_ALONE = (
    "the processor that is tested here has no video processor, one that has is tested by "
    "tests/processing/test_processing_fila_video.py; none of ours takes audio"
)

SKIP_REASONS = {
    # ours
    r"test_generation_tester_mixin_inheritance: \[ours\]": (
        "ours: the generation mixin is not in the source distribution; tests/modeling tests `generate`"
    ),
    # what a CPU without extra packages cannot run
    r"requires (accelerator|multiple accelerators|CUDA|MPS)": "needs an accelerator",
    r"requires Flash Attention": "needs flash-attention, which needs an accelerator",
    r"requires the kernels library": "needs the kernels library, whose kernels need an accelerator",
    r"requires deepspeed": "needs DeepSpeed",
    r"requires torchao": "needs torchao, which we do not support",
    r"test_(can_compile_(torchvision_backend|fast_video_processor)|torch_compile_for_training): test is slow": (
        "slow, and needs an accelerator"
    ),
    r"test_pil_can_run_without_torchvision: test is slow": (
        "starts a process that knows transformers' own classes only; `make test` runs without torchvision"
    ),
    # what FILA is not
    r"ProcessorTest::.*requires (Torchcodec|av|librosa)": IMAGES_ALONE,
    r"(video_processor|feature_extractor|audio_processor) attribute not present": IMAGES_ALONE,
    r"Processor has no (audio|video) processor|doesn't accept videos": IMAGES_ALONE,
    r"does not support grouped_mm|no sparse experts|output_router_logits|Not an MoE model": "there are no experts",
    r"encoder_decoder_loss.*Model is not an encoder-decoder": "not an encoder-decoder",
    r"does not support sliding window mask": "no sliding window",
    r"resize_position_vector_embeddings.*does not have position embeddings": "LLaMA's positions are rotary",
    r"partial_rotation.*does not have partial rope": "LLaMA rotates every channel",
    r"has no axial RoPE layer": "CLIP's positions are learnt",
    r"[Nn]o `?_keep_in_fp32_modules": "no module is kept in float32",
    r"No conversion found for": "names on disk are the module names, nothing is converted at loading",
    r"test_sdpa_can_dispatch_non_composite_models": "the model is a composite; its own dispatch test runs",
    # gaps of upstream's tests
    r"test_(image|video)_processor_preprocess_arguments: No validation found": (
        "the test knows hand-written `preprocess` only"
    ),
    r"test_override_instance_attributes.*does not have dict size": "the test knows sizes stored as dicts only",
    r"TensorParallelTest::.*does not have causal_lm_class": "5.16's mixin knows text-only models only; 5.23's runs",
}
