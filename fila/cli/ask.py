# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Questions to a checkpoint about images and videos, with streamed answers."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import typer
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerBase, TextStreamer

from fila.conversion.damage import naming_damage
from fila.look.view_settings import check_checkpoint, pruned
from fila.modeling.configuration_fila import FilaConfig
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.image_input import load_images
from fila.processing.image_size import read_size
from fila.processing.image_source import document_path
from fila.processing.processing_fila import FilaProcessor
from fila.training.answering import Generated, Watch

VIDEO_SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
NOT_SURE = "not sure"
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Answer:
    """A checkpoint's answer and its cost.

    Attributes:
        text: The answer, without control tokens.
        num_image_tokens: Tokens of images and videos in the prompt.
        num_prompt_tokens: All tokens of the prompt.
        num_new_tokens: Tokens of the answer, its end token too.
        first_token_seconds: From the call of `generate` to the first token.
        seconds: From the call of `generate` to the last token.
        generated: The answer as `Answerer` returns it: with its confidence and what was cut off.
    """

    text: str
    num_image_tokens: int
    num_prompt_tokens: int
    num_new_tokens: int
    first_token_seconds: float
    seconds: float
    generated: Generated | None = None


class TimedStreamer(TextStreamer):
    """Streamer that writes the answer to standard output and keeps its text and the time of its first token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, shows: bool = True) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.shows = shows
        self.written: list[str] = []
        self.first_token_at: float | None = None

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, and then token after token."""
        if not self.next_tokens_are_prompt and self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Write a finished piece of text."""
        self.written.append(text)
        if self.shows:
            super().on_finalized_text(text, stream_end=stream_end)


def open_images(paths: Sequence[str], processor: FilaProcessor | None = None) -> list[Image.Image]:
    """Load image files and pages of documents, upright; a PDF's at the size that the processor's canvas can show.

    Without a processor PDFs are drawn at 200 dots per inch.

    Raises:
        ImageInputError: If a file cannot be used; names the first such file.
    """
    rule = None if processor is None else processor.image_processor.page_size
    images: list[Image.Image] = load_images(list(paths), page_size=rule)
    return images


def is_video(path: object) -> bool:
    """Return whether this is the path of a video, by its extension."""
    return isinstance(path, str) and path.lower().endswith(VIDEO_SUFFIXES)


def open_sources(paths: Sequence[str]) -> list[Any]:
    """Load image files; keep videos as paths, which the processor opens, and pages of PDFs, which it draws.

    Raises:
        ValueError: If a file cannot be used; names the first such file.
    """
    found: list[Any] = load_images(list(paths), keep=lambda path: is_video(path) or document_path(path) is not None)
    for number, path in enumerate(found):
        if isinstance(path, str) and not is_video(path):  # of a PDF
            read_size(path, number)
    return found


def choose_device(device: str) -> torch.device:
    """Return the named device; for "auto", this machine's accelerator if it has one, else the CPU.

    Raises:
        ValueError: If the name is unknown, or this machine has no such device.
    """
    if device == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"`device` must be one that torch knows, such as cpu or cuda; got {device!r}.") from error
    try:
        torch.zeros(1, device=found).item()
    except Exception as error:  # each kind of device raises its own error
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(
            f"`device` must be one that this machine has; {device!r} cannot be used: {reason}."
        ) from error
    return found


def load_checkpoint(
    checkpoint: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantize: Callable[[FilaConfig], Any] | None = None,
    prune: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Load a model and its processor.

    Args:
        checkpoint: Folder or Hub id.
        device: Name of a torch device, or "auto".
        dtype: One of `DTYPES`; "auto" keeps the checkpoint's dtype, except that float16 becomes float32 on the CPU,
            where float16 is several times slower.
        quantize: Function from the config to the `quantization_config` to load with.
        prune: Pruning of image tokens, instead of the checkpoint's own.

    Returns:
        The model in eval mode, and the processor.

    Raises:
        ValueError: If the checkpoint does not exist, is damaged or is not one of this package's, or there is no such
            device.
    """
    check_checkpoint(checkpoint)
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` must be one of {list(DTYPES)}; got {dtype!r}.")
    target = choose_device(device)
    with naming_damage(checkpoint):
        config = AutoConfig.from_pretrained(checkpoint)
        if not isinstance(config, FilaConfig):
            raise ValueError(
                f"{checkpoint!r} is a checkpoint of model type {config.model_type!r}; this command needs 'fila'."
            )
        processor = AutoProcessor.from_pretrained(
            checkpoint, **pruned(prune)
        )  # loaded first, so that errors come early
        if dtype == "auto" and target.type == "cpu" and config.dtype == torch.float16:
            dtype = "float32"
        options = pruned(prune) | ({} if quantize is None else {"quantization_config": quantize(config)})
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=dtype, **options)
    return model.to(target).eval(), processor  # type: ignore[arg-type]


def ask(
    model: FilaForConditionalGeneration,
    processor: FilaProcessor,
    images: Sequence[Any],
    question: str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    generation: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
    confidence: bool = False,
    min_confidence: float = 0.0,
) -> Answer:
    """Ask one question about images and videos; the answer streams to standard output.

    An answer that repeats itself without end is stopped, see `fila.training.repetition`.

    Args:
        model: The model.
        processor: Its processor.
        images: Images in prompt order, with a path for each video; empty for a question without images.
        question: Text after the images.
        max_new_tokens: Longest answer, in tokens.
        temperature: 0 takes the likeliest token each time; above 0 samples.
        seed: Random seed of the sampling.
        generation: Further arguments of `generate`.
        say: Function that receives lines about the progress.
        confidence: Whether to tell the probability of the answer.
        min_confidence: Above 0, the answer is written when it is whole; one of less confidence only to `say`, and
            `NOT_SURE` in its place.

    Returns:
        The answer and its cost.
    """
    content: list[dict[str, Any]] = [
        {"type": "video", "path": item} if isinstance(item, str) else {"type": "image", "image": item}
        for item in images
    ]
    content.append({"type": "text", "text": question})
    started = time.perf_counter()
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    num_prompt = inputs["input_ids"].shape[1]
    placeholders = [token for token in (model.config.image_token_id, model.config.video_token_id) if token is not None]
    num_image = sum(int((inputs["input_ids"] == token).sum()) for token in placeholders)
    shown = [f"{rows} x {cols} tiles" for rows, cols in inputs.get("tile_grid", torch.empty(0, 2)).tolist()]
    for boxes in inputs.get("video_view_boxes", ()):
        shown.append(f"{int(boxes.flatten(1).any(dim=1).sum())} frames")
    grids = ", ".join(shown) or "none"
    say(
        f"prompt: {num_image:,} image tokens ({grids}) + {num_prompt - num_image:,} of text; "
        f"prepared in {time.perf_counter() - started:.1f} s"
    )

    sampling: dict[str, Any] = {"do_sample": False, **(generation or {})}
    if temperature > 0:
        torch.manual_seed(seed)
        sampling |= {"do_sample": True, "temperature": temperature}
    streamer = TimedStreamer(processor.tokenizer, shows=not min_confidence)
    watch = Watch(processor.tokenizer, stop_repetition=True, confidence=confidence or min_confidence > 0)
    started = time.perf_counter()
    with torch.inference_mode():
        tokens = model.generate(
            **inputs, max_new_tokens=max_new_tokens, streamer=streamer, **sampling, **watch.arguments()
        )
    seconds = time.perf_counter() - started
    first = (streamer.first_token_at or started) - started
    (found,) = watch.answers(tokens[:, num_prompt:].tolist(), model.generation_config.eos_token_id)
    answer = Answer(
        "".join(streamer.written), num_image, num_prompt, tokens.shape[1] - num_prompt, first, seconds, found
    )
    if min_confidence:
        is_sure = found.confidence >= min_confidence
        typer.echo(found.text if is_sure else NOT_SURE)
        if not is_sure:
            say(f"the answer would be: {found.text!r}")
    if found.logprob is not None:
        per_token = math.exp(found.logprob / max(1, found.tokens))
        say(f"confidence: {found.confidence:.3f} in the whole answer, {per_token:.3f} per token")
    if found.cut is not None:
        say(f"the answer was {found.cut.notice()}")
    rate = (answer.num_new_tokens - 1) / max(seconds - first, 1e-9)
    say(f"answer: {answer.num_new_tokens} tokens, the first after {first:.1f} s, then {rate:.1f} per second")
    return answer
