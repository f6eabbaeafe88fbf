# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What joining two towers costs beside running both, what the wrapper costs beside a bare LLaMA, and two peers.

    python benchmarks/encoder.py flops    operations, full depth and width, no weights: seconds
    python benchmarks/encoder.py time     CPU seconds, real widths, few layers: minutes; `--full` for all layers
    python benchmarks/encoder.py text     prefill and decode of `fila` over those of LlamaForCausalLM
    python benchmarks/encoder.py peers    operations of DeepSeek-VL-hybrid's and LLaVA-NeXT's encoders
    python benchmarks/encoder.py beside   encoders of other kinds beside a plain one, of `BESIDE`: operations and time
    python benchmarks/encoder.py variants operations and CPU seconds of encoders beside plainer ones, at equal views

The towers are FILA's, CLIP-L/14-336 and ConvNeXt-L. A fusion's ratio is hybrid / (low-res alone + high-res alone); the
high-res tower alone runs the stages that the fusion reads. Times are CPU time of this process, one thread, the least
of rounds in which all candidates take turns, so that other load on the machine counts little. Few layers make the
fusion's share too large; the last column scales the towers' times to full depth by their operations.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaForCausalLM

from fila import FilaConfig, FilaForConditionalGeneration, FilaVisionModel
from fila.look.estimate import Estimator
from fila.look.view_settings import placeholder_tokenizer
from fila.modeling.connector import build_connector
from fila.modeling.fusion import FUSIONS, build_fusion
from fila.modeling.modeling_cache_name import CACHE_NAME
from fila.processing.canvas_plan import Size
from fila.systems.recipes import load_recipe, processor

SHALLOW = {"num_hidden_layers": 4, "image_size": 168}
SHALLOW_STAGES = {"depths": [1, 1, 2, 1]}
ROUNDS = 3


def config_of(fusion: str, low: dict[str, Any], high: dict[str, Any]) -> FilaConfig:
    """FILA's recipe with another fusion; no language model to speak of."""
    settings: dict[str, Any] = {"fusion": {"type": fusion}, "text": {"num_hidden_layers": 1}}
    settings["high_res_tile_size"] = low.get("image_size", 336) * 32 // 14
    if fusion == "none":
        settings |= {"high_res_vision_config": None, "high_res_tile_size": None}
        return FilaConfig.from_recipe("fila", low_res=low, **settings)
    return FilaConfig.from_recipe("fila", low_res=low, high_res=high, **settings)


def one_view(config: FilaConfig, device: str) -> dict[str, torch.Tensor]:
    """Inputs of one tile."""
    side, high = config.tile_size, config.high_res_tile_size
    inputs = {
        "pixel_values": torch.randn(1, 1, 3, side, side, device=device),
        "view_boxes": torch.tensor([[[0, 0, side, side]]]),
        "tile_grid": torch.tensor([[1, 1]]),
    }
    if high is not None:
        inputs["high_res_pixel_values"] = torch.randn(1, 3, high, high, device=device)
        inputs["high_res_sizes"] = torch.tensor([[high, high]])
    return inputs


def built(config: FilaConfig, device: str) -> FilaVisionModel:
    """The encoder on a device, weights random."""
    with torch.device(device):
        return FilaVisionModel(config).eval().requires_grad_(False)


def high_alone(model: FilaVisionModel, config: FilaConfig, device: str) -> Callable[[], Any]:
    """The high-res tower, as far as the fusion reads it."""
    pixels = torch.randn(1, 3, config.high_res_tile_size, config.high_res_tile_size, device=device)
    tower: Any = model.high_res_tower
    stages = len(tower.encoder.stages)
    return lambda: tower.run_stages(tower.embed(pixels), 0, stages)


def candidates(fusion: str, low: dict[str, Any], high: dict[str, Any], device: str) -> dict[str, Callable[[], Any]]:
    """What is compared: both alone, and together."""
    config, single = config_of(fusion, low, high), config_of("none", low, high)
    hybrid, alone = built(config, device), built(single, device)
    inputs, own = one_view(config, device), one_view(single, device)
    return {
        "low": lambda: alone(**own),
        "high": high_alone(hybrid, config, device),
        "hybrid": lambda: hybrid(**inputs),
    }


def operations(run: Callable[[], Any]) -> int:
    """Operations that torch counts."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def seconds(runs: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """CPU seconds of each, the least of rounds in which they take turns; one round before does not count."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, run in runs.items():
                started = time.process_time()
                run()
                found[name].append(time.process_time() - started)
    return {name: min(times[1:]) for name, times in found.items()}


def flops() -> None:
    """Print the operations of every fusion at full size."""
    print("| fusion | low-res, GFLOP | high-res | hybrid | ratio | `fila estimate`, no connector | differs |")
    print("|---|---|---|---|---|---|---|")
    for fusion in FUSIONS:
        if fusion == "none":
            continue
        runs = candidates(fusion, {}, {}, "meta")
        low, high, hybrid = (operations(runs[name]) for name in ("low", "high", "hybrid"))
        told = formula(fusion)
        cells = [f"{count / 1e9:,.1f}" for count in (low, high, hybrid)]
        print(
            f"| {fusion} | {' | '.join(cells)} | {hybrid / (low + high):.3f} | {told / 1e9:,.1f} | "
            f"{abs(told - hybrid) / hybrid:.1e} |"
        )


def formula(fusion: str) -> int:
    """Operations of the encoder as `fila estimate` counts them, part by part and once per shape."""
    config = config_of(fusion, {}, {})
    images = {"canvas": {"type": "single"}}
    with_tokens = Estimator.of(
        config, processor(load_recipe("fila"), config, placeholder_tokenizer(), image_processor=images)
    )
    side = config.vision_config.image_size
    size, canvas = Size(side, side), {"type": "single"}
    total = with_tokens.encoder_flops(with_tokens.processor.image_processor.plan(*size), canvas)
    assert total is not None
    with torch.device("meta"):
        joined = build_fusion(config)
        connector = build_connector(config, joined.output_size)
    rows, cols = joined.output_grid
    features = torch.empty(1, rows * cols, joined.output_size, device="meta")
    return total - operations(lambda: connector(features, joined.output_grid))


def timed(fusions: list[str], rounds: int) -> None:
    """Print the times of some fusions at real widths and few layers."""
    print(f"CLIP-L with {SHALLOW}, ConvNeXt-L with {SHALLOW_STAGES}, CPU seconds")
    print("| fusion | low-res | high-res | hybrid | ratio | ratio of operations | ratio at full depth |")
    print("|---|---|---|---|---|---|---|")
    full_low = {"image_size": SHALLOW["image_size"]}
    for fusion in fusions:
        times = seconds(candidates(fusion, SHALLOW, SHALLOW_STAGES, "cpu"), rounds)
        few, full = (
            {name: operations(run) for name, run in candidates(fusion, low, high, "meta").items()}
            for low, high in ((SHALLOW, SHALLOW_STAGES), (full_low, {}))
        )
        alone = times["low"] + times["high"]
        deep = sum(times[name] * full[name] / few[name] for name in ("low", "high"))
        ratios = times["hybrid"] / alone, few["hybrid"] / (few["low"] + few["high"])
        cells = [*(f"{times[name]:.2f}" for name in ("low", "high", "hybrid")), *(f"{one:.3f}" for one in ratios)]
        print(f"| {fusion} | {' | '.join(cells)} | {1 + (times['hybrid'] - alone) / deep:.3f} |", flush=True)


def timed_at_full_depth(fusions: list[str], rounds: int) -> None:
    """Print the times of some fusions in FILA's own encoder, one tile of 336 pixels and its 768 of the canvas."""
    print("| fusion | low-res | high-res | hybrid | ratio | ratio of operations |\n|---|---|---|---|---|---|")
    for fusion in fusions:
        found = seconds(candidates(fusion, {}, {}, "cpu"), rounds)
        counted = {name: operations(run) for name, run in candidates(fusion, {}, {}, "meta").items()}
        ratios = (each["hybrid"] / (each["low"] + each["high"]) for each in (found, counted))
        cells = [*(f"{found[name]:.2f}" for name in ("low", "high", "hybrid")), *(f"{one:.3f}" for one in ratios)]
        print(f"| {fusion} | {' | '.join(cells)} |", flush=True)


def text(rounds: int, tokens: int = 96, steps: int = 6) -> None:
    """Print prefill and decode of the language model inside and outside."""
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 8}
    sizes |= {"vocab_size": 32000, "max_position_embeddings": 4096}
    tiny = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = FilaConfig.from_recipe("llava-next", low_res=tiny, text=sizes, image_newline=False, image_token_id=31999)
    ours = FilaForConditionalGeneration(config).eval()
    bare = LlamaForCausalLM(config.text_config).eval()
    bare.model.load_state_dict(ours.model.language_model.state_dict())
    bare.lm_head.load_state_dict(ours.lm_head.state_dict())
    embeds = torch.randn(1, tokens, config.text_config.hidden_size)
    ids = torch.tensor([[7]])

    def decode(model: Any) -> Callable[[], Any]:
        def run() -> None:
            cache = DynamicCache(config=config.text_config)
            model(inputs_embeds=embeds[:, :8], **{CACHE_NAME: cache}, use_cache=True)
            for _ in range(steps):
                model(input_ids=ids, **{CACHE_NAME: cache}, use_cache=True)

        return run

    runs: dict[str, Callable[[], Any]] = {
        "bare prefill": lambda: bare(inputs_embeds=embeds, use_cache=True),
        "fila prefill": lambda: ours(inputs_embeds=embeds, use_cache=True),
        "bare decode": decode(bare),
        "fila decode": decode(ours),
    }
    with torch.no_grad():
        assert torch.equal(runs["bare prefill"]().logits, runs["fila prefill"]().logits)
    found = seconds(runs, rounds)
    print(f"LLaMA of width 1024, 4 layers; {tokens} embeddings, {steps} steps")
    print("| | LlamaForCausalLM, CPU s | fila | ratio |")
    print("|---|---|---|---|")
    for name in ("prefill", "decode"):
        one, other = found[f"bare {name}"], found[f"fila {name}"]
        print(f"| {name} | {one:.3f} | {other:.3f} | {other / one:.3f} |")


def peers() -> None:
    """Print the operations of encoders for one image of 672 x 672 pixels, at full size."""
    from transformers import LlavaNextConfig, LlavaNextModel
    from transformers.models.deepseek_vl_hybrid import DeepseekVLHybridConfig, DeepseekVLHybridModel

    thin = {"model_type": "llama", "num_hidden_layers": 1}
    print("| encoder | what it sees of 672 x 672 pixels | image tokens | GFLOP, connector included |")
    print("|---|---|---|---|")
    with torch.device("meta"):
        hybrid = FilaForConditionalGeneration(FilaConfig.from_recipe("fila", text={"num_hidden_layers": 1})).eval()
        next_ours = FilaForConditionalGeneration(FilaConfig.from_recipe("llava-next", text={"num_hidden_layers": 1}))
        next_theirs = LlavaNextModel(LlavaNextConfig(text_config=thin)).eval()
        sam = {"model_type": "sam_vision_model", "hidden_size": 768, "image_size": 1024}
        siglip = {
            "model_type": "siglip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 16,
        }
        deepseek = DeepseekVLHybridModel(
            DeepseekVLHybridConfig(vision_config=siglip, high_res_vision_config=sam, text_config=thin)
        ).eval()
    views = {
        "pixel_values": torch.empty(1, 5, 3, 336, 336, device="meta"),
        "view_boxes": torch.tensor(
            [[[0, 0, 672, 672], [0, 0, 336, 336], [0, 336, 336, 672], [336, 0, 672, 336], [336, 336, 672, 672]]]
        ),
        "tile_grid": torch.tensor([[2, 2]]),
    }
    canvas = {
        "high_res_pixel_values": torch.empty(1, 3, 1536, 1536, device="meta"),
        "high_res_sizes": torch.tensor([[1536, 1536]]),
    }
    rows: list[tuple[str, str, Callable[[], Any]]] = [
        ("FILA", "5 views of 336 and a canvas of 1536", lambda: hybrid.get_image_features(**views, **canvas)),
        ("LLaVA-NeXT, fila", "5 views of 336", lambda: next_ours.get_image_features(**views)),
        (
            "LLaVA-NeXT, transformers",
            "5 views of 336",
            lambda: next_theirs.get_image_features(views["pixel_values"], torch.tensor([[672, 672]])),
        ),
        (
            "DeepSeek-VL hybrid, transformers",
            "one view of 384 and one of 1024",
            lambda: deepseek.get_image_features(
                torch.empty(1, 3, 384, 384, device="meta"), torch.empty(1, 3, 1024, 1024, device="meta")
            ),
        ),
    ]
    for part in (hybrid, next_ours, next_theirs, deepseek):
        part.requires_grad_(False)
    for name, seen, run in rows:
        with torch.no_grad():
            made: Any = run()
        made = getattr(made, "pooler_output", made)
        count = made[0].shape[-2] if isinstance(made, list | tuple) else made.shape[-2]
        print(f"| {name} | {seen} | {count:,} | {operations(run) / 1e9:,.0f} |", flush=True)


Row = tuple[str, Callable[[], Any]]


def serial_towers(device: str, side: int, layers: int | None) -> list[Row]:
    """DeepSeek-OCR's towers in series and in parallel, for one view: 256 tokens of 1024 pixels, 2048 channels wide.

    In parallel CLIP reads the pixels itself, in SAM's patches of 16 pixels, and its features are averaged onto the
    grid of SAM's map.
    """
    low, high = {"image_size": side, "patch_size": 16}, {}
    if layers is not None:
        low |= {"num_hidden_layers": layers}
        high |= {"num_hidden_layers": layers, "global_attn_indexes": [layers - 1]}
    thin: dict[str, Any] = {"text": {"num_hidden_layers": 1}, "tile_size": side, "high_res": high}
    parallel = FilaConfig.from_recipe(
        "deepseek-ocr",
        low_res=low,
        low_res_views="processor",
        high_res_tile_size=side,
        fusion={"type": "channel_concat", "align": "pool", "grid": -(-side // 64)},
        **thin,
    )
    serial = FilaConfig.from_recipe("deepseek-ocr", low_res={**low, "image_size": 224, "patch_size": 14}, **thin)
    rows = []
    for name, config in (("parallel", parallel), ("serial", serial)):
        model, inputs = built(config, device), one_view(config, device)
        rows.append((f"{name}, {side} pixels", functools.partial(model, **inputs)))
    return rows


# Functions (device, pixels per side, layers or None for all) that return encoders to compare, the plain one first.
BESIDE: dict[str, tuple[Callable[[str, int, int | None], list[Row]], tuple[int, ...]]] = {
    "serial towers": (serial_towers, (640, 1024)),
}
FEW_LAYERS = 2


def beside(rounds: int) -> None:
    """Print operations at full depth, and CPU seconds of few layers at the smallest size."""
    for name, (rows_of, sides) in BESIDE.items():
        print(f"{name}\n| encoder | tokens | GFLOP | of the first |\n|---|---|---|---|")
        for side in sides:
            counted = [(told, operations(run), run) for told, run in rows_of("meta", side, None)]
            for told, count, run in counted:
                with torch.no_grad():
                    tokens = run().last_hidden_state.shape[1]
                print(f"| {told} | {tokens:,} | {count / 1e9:,.0f} | {count / counted[0][1]:.2f} |", flush=True)
        few = dict(rows_of("cpu", sides[0], FEW_LAYERS))
        times, counts = seconds(few, rounds), dict(rows_of("meta", sides[0], FEW_LAYERS))
        first, least = next(iter(times)), operations(counts[next(iter(counts))])
        head = f"| {FEW_LAYERS} layers of each tower | CPU s | of the first | operations, of the first |"
        print(f"\n{head}\n|---|---|---|---|")
        for told, found in times.items():
            share = operations(counts[told]) / least
            print(f"| {told} | {found:.2f} | {found / times[first]:.2f} | {share:.2f} |", flush=True)


def merger_inside() -> tuple[FilaConfig, FilaConfig]:
    """MiniCPM-V 4.6's SigLIP without and with the merger behind layer 7, one view of 448 pixels."""
    merging = FilaConfig.from_recipe("minicpm-v-4.6", text={"num_hidden_layers": 1})
    options = merging.vision_config.tower_options
    plain = FilaConfig.from_recipe(
        "minicpm-v-4.6",
        low_res={"tower_options": {**options, "merge_after": None}},
        text={"num_hidden_layers": 1},
    )
    return plain, merging


# A row each: (plain, other) encoders that see the same views.
VARIANTS: dict[str, Callable[[], tuple[FilaConfig, FilaConfig]]] = {
    "merger inside the ViT (16x) beside the plain ViT (4x)": merger_inside,
}


def variants(rounds: int) -> None:
    """Print operations and CPU seconds of each variant beside the plain encoder, at full size; no connector."""
    print("| encoder | features | plain, GFLOP | other | fewer | plain, CPU s | other | less |")
    print("|---|---|---|---|---|---|---|---|")
    for name, configs in VARIANTS.items():
        both = configs()
        counts, runs, features = [], {}, []
        for index, config in enumerate(both):
            on_meta, inputs = built(config, "meta"), one_view(config, "meta")
            counts.append(operations(lambda model=on_meta, given=inputs: model(**given)))
            model, given = built(config, "cpu"), one_view(config, "cpu")
            runs[str(index)] = lambda model=model, given=given: model(**given)
            features.append(math.prod(config.patch_grid))
        times = list(seconds(runs, rounds).values())
        cells = [f"{features[0]:,} to {features[1]:,}"]
        cells += [*(f"{count / 1e9:,.1f}" for count in counts), f"{1 - counts[1] / counts[0]:.1%}"]
        cells += [*(f"{one:.2f}" for one in times), f"{1 - times[1] / times[0]:.1%}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["flops", "time", "text", "peers", "beside", "variants"])
    parser.add_argument("--fusions", nargs="+", default=["cvfm", "mixture_of_resolution"])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--full", action="store_true", help="of `time`: all layers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "time":
        (timed_at_full_depth if given.full else timed)(given.fusions, given.rounds)
    elif given.what in ("text", "beside", "variants"):
        {"text": text, "beside": beside, "variants": variants}[given.what](given.rounds)
    else:
        {"flops": flops, "peers": peers}[given.what]()


if __name__ == "__main__":
    main()
