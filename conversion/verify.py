# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Verification that a checkpoint is complete and consistent, and that a fresh offline process can run it."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import GenerationConfig
from transformers.dynamic_module_utils import get_relative_imports

from fila import version
from fila.modeling.configuration_fila import AUTO_MAP
from fila.modeling.configuration_stored_layers import check_stored_layers
from fila.processing.chat_control_tokens import control_tokens
from fila.systems.chat_templates import places_images, unescaped_tokens
from fila.systems.meta_model import model_on_meta

from .adapter import check_text_adapter
from .key_rules import check_targets
from .new_weights import stored_shapes
from .pretrained_part import PICKLES, read_json, read_tensors
from .remote_code import (
    IMAGE_PROCESSOR_AUTO_MAP,
    PROCESSOR_AUTO_MAP,
    auto_map_files,
    differing_code,
    model_code,
    own_code,
    processor_code,
)
from .safetensors_file import StoredTensor

if TYPE_CHECKING:
    from fila.modeling.configuration_fila import FilaConfig
    from fila.modeling.modeling_fila import FilaForConditionalGeneration
    from fila.processing.processing_fila import FilaProcessor


_REQUIRED_FILES = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "README.md",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(--.+)?")


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: Condition that must hold.
        ok: Whether it held.
        detail: What was found, or what is wrong and where.
    """

    name: str
    ok: bool
    detail: str


def verify(
    directory: str | Path,
    *,
    forward: bool = True,
    values: bool = False,
    adapters: Iterable[str | Path] = (),
    trust_remote_code: bool = False,
    timeout: float = 1800,
) -> list[Check]:
    """Check a checkpoint folder.

    Args:
        directory: The folder.
        forward: Also open it in a fresh offline process and run one forward on a generated image; this loads the
            weights.
        values: Also read every weight and look for NaN and infinity.
        adapters: Folders of PEFT's adapters; also check that vLLM would serve them whole.
        trust_remote_code: Accept code in the folder that is not the installed `fila`'s, and let that process run it.
            Code that equals the installed one is always run from the folder.
        timeout: Time limit of the process, in seconds.

    Returns:
        Every check, in order; the checkpoint is good if all of them are `ok`.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder.")
    checkpoint = _Checkpoint(folder)
    checks: dict[str, Callable[[], str]] = {
        "files are complete": checkpoint.check_files,
        "no pickles": checkpoint.check_pickles,
        "no paths in configs": checkpoint.check_paths,
        "remote code is complete": checkpoint.check_remote_code,
        "remote code is fila's": lambda: checkpoint.check_foreign_code(trust_remote_code),
        "weights have names that load": checkpoint.check_weight_names,
        "weights are readable": checkpoint.check_weight_files,
        "keys and shapes fit the model": checkpoint.check_keys,
        "one dtype": checkpoint.check_dtypes,
        "token ids fit the vocabulary": checkpoint.check_token_ids,
        "processor fits the model": checkpoint.check_processor,
        "chat template places images": checkpoint.check_chat_template,
        "answers in batches and to strangers": checkpoint.check_generation,
    }
    if values:
        checks["values are finite"] = checkpoint.check_values
    for adapter in adapters:
        checks[f"{Path(adapter).name} is an adapter that vLLM serves"] = partial(_check_adapter, adapter)
    if forward:
        checks["opens offline and runs"] = lambda: checkpoint.check_forward(trust_remote_code, timeout)
    return [_run(name, check) for name, check in checks.items()]


def _check_adapter(folder: str | Path) -> str:
    return f"{check_text_adapter(folder)} tensors, all of the language model"


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # any error of a broken checkpoint is a finding
        return Check(name, False, str(error) or type(error).__name__)


class _Checkpoint:
    """A checkpoint folder to verify; each `check_*` returns what it found, or raises an error."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def config(self) -> "FilaConfig":
        from fila.modeling.configuration_fila import FilaConfig

        return FilaConfig.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def processor(self) -> "FilaProcessor":
        from fila.processing.processing_fila import FilaProcessor

        return FilaProcessor.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def model(self) -> "FilaForConditionalGeneration":
        check_stored_layers(self.folder)
        return model_on_meta(self.config)

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        return read_tensors(self.folder, self.folder.name)

    @cached_property
    def json_files(self) -> dict[str, dict[str, Any]]:
        return {path.name: read_json(path) for path in sorted(self.folder.glob("*config.json"))}

    def check_files(self) -> str:
        missing = [name for name in _REQUIRED_FILES if not (self.folder / name).is_file()]
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            missing.append("tokenizer.json")
        if not (self.folder / "chat_template.jinja").is_file():
            missing.append("chat_template.jinja")
        if missing:
            raise ValueError(f"Missing: {', '.join(missing)}.")
        return f"{sum(1 for path in self.folder.rglob('*') if path.is_file())} files"

    def check_pickles(self) -> str:
        found = sorted(path.name for pattern in PICKLES for path in self.folder.rglob(pattern))
        if found:
            raise ValueError(f"{found[0]!r} can run code when it is opened; a checkpoint has safetensors only.")
        return "none"

    def check_paths(self) -> str:
        for name, contents in self.json_files.items():
            for place, text in _strings(contents):
                absolute = text.startswith(("/", "~", "file:")) or text[1:3] == ":\\"
                if absolute or _HUB_ID.fullmatch(text) or (place.endswith("name_or_path") and text):
                    raise ValueError(
                        f"{name} has {text!r} at {place}; a checkpoint must not refer to places outside itself."
                    )
        return f"{len(self.json_files)} files read"

    @property
    def is_without_code(self) -> bool:
        """Return whether the folder neither holds nor names code; it then loads only where `fila` is installed."""
        named = any(True for contents in self.json_files.values() for _ in _auto_maps(contents))
        return not named and not any(self.folder.rglob("*.py"))

    def check_remote_code(self) -> str:
        if self.is_without_code:
            return "none; loads where fila is installed"
        processor = self.json_files.get("processor_config.json", {})
        needed: set[str] = set()
        for where, found, expected in (
            ("config.json", self.json_files.get("config.json", {}), AUTO_MAP),
            ("processor_config.json", processor, PROCESSOR_AUTO_MAP),
            ("image_processor", processor.get("image_processor", {}), IMAGE_PROCESSOR_AUTO_MAP),
            ("tokenizer_config.json", self.json_files.get("tokenizer_config.json", {}), {}),
        ):
            auto_map = found.get("auto_map") or {}
            if missing := sorted(set(expected) - set(auto_map)):
                raise ValueError(f"{where} has no `auto_map` entry for {', '.join(missing)}.")
            needed |= auto_map_files(auto_map)
        seen: set[str] = set()
        while needed - seen:
            name = (needed - seen).pop()
            seen.add(name)
            if not (self.folder / name).is_file():
                raise ValueError(
                    f"{name} is missing; without it the checkpoint does not load where fila is not installed."
                )
            needed |= {f"{module}.py" for module in get_relative_imports(self.folder / name)}
        return f"{len(seen)} files"

    @cached_property
    def foreign_code(self) -> list[str]:
        """List how the code that opening the folder may run differs from the installed `fila`'s."""
        if self.is_without_code:
            return []
        code = {**model_code(self.config), **processor_code(self.processor)}
        found, own = differing_code(self.folder, code), {*own_code(), *code}
        found += [f"{name} (of another package)" for name in sorted(set(code) - set(own_code()))]
        expected: dict[tuple[str, str], dict[str, Any]] = {
            ("config.json", "auto_map"): AUTO_MAP,
            ("processor_config.json", "auto_map"): PROCESSOR_AUTO_MAP,
            ("processor_config.json", "image_processor.auto_map"): IMAGE_PROCESSOR_AUTO_MAP,
        }
        for name, contents in self.json_files.items():
            for place, auto_map in _auto_maps(contents):
                ours = expected.get((name, place), {})
                for key, value in auto_map.items():
                    is_other = isinstance(value, str) and value != ours.get(key, value)
                    if is_other or "--" in str(value) or not auto_map_files({key: value}) <= own:
                        found.append(f"`{place}.{key}` of {name} ({value})")
        return found

    def check_foreign_code(self, trust_remote_code: bool) -> str:
        if not self.foreign_code:
            return f"that of fila {version.__version__}"
        listed = f"{len(self.foreign_code)} differ: {', '.join(self.foreign_code)}"
        if trust_remote_code:
            return f"trusted, {listed}"
        raise ValueError(
            f"Code must be what fila {version.__version__} writes; {listed}. That of another version differs too. "
            "Pass `trust_remote_code` if you know where it is from."
        )

    def check_weight_names(self) -> str:
        single, index = "model.safetensors", "model.safetensors.index.json"
        found = {path.name for path in self.folder.glob("*.safetensors*")}
        loaded = {single} if single in found else {index, *_read_index(self.folder, index)}
        extra = ", ".join(sorted(found - loaded))
        if extra or not found:
            wrong = f"transformers does not load {extra}" if extra else "there are none"
            raise ValueError(f"Weights must be {single}, or {index} and the files that it names; {wrong}.")
        if other := self.json_files.get("config.json", {}).get("transformers_weights"):
            raise ValueError(f"config.json names other weights in `transformers_weights`, {other!r}; remove that.")
        return ", ".join(sorted(found - {index}))

    def check_weight_files(self) -> str:
        size = sum(tensor.num_bytes for tensor in self.tensors.values())
        return (
            f"{len(self.tensors)} tensors, {size / 1e9:.2f} GB, {len({t.file for t in self.tensors.values()})} files"
        )

    def check_keys(self) -> str:
        origin = {key: f"{tensor.file.name}" for key, tensor in self.tensors.items()}
        filled = {key: tensor.shape for key, tensor in self.tensors.items()}
        expected = stored_shapes(self.model)
        check_targets(filled, expected, origin=origin)
        return f"{len(expected)} of {len(expected)}"

    def check_dtypes(self) -> str:
        dtypes = {tensor.dtype for tensor in self.tensors.values()}
        if dtypes != {self.config.dtype}:
            raise ValueError(
                f"config.json says {self.config.dtype}; the weights are {', '.join(sorted(map(str, dtypes)))}."
            )
        return str(self.config.dtype)

    def check_token_ids(self) -> str:
        tokenizer, rows = self.processor.tokenizer, self.config.text_config.vocab_size
        token, found = self.processor.image_token, self.processor.image_token_id
        if found != self.config.image_token_id:
            raise ValueError(
                f"`image_token_id` is {self.config.image_token_id}; the tokenizer gives {token!r} the id {found}."
            )
        generation = GenerationConfig.from_pretrained(self.folder, local_files_only=True)
        ids = {"the tokenizer": max(tokenizer.get_vocab().values()), "`image_token_id`": found}
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(generation, name)
            ids[f"generation_config.{name}"] = max(value) if isinstance(value, list) else value
        for name, value in ids.items():
            if value is not None and not 0 <= value < rows:
                raise ValueError(f"{name} has the id {value}, outside the vocabulary of {rows} rows.")
        if generation.eos_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError("There is no end-of-text or no pad token; generation in batches needs both.")
        return f"image token {found}, vocabulary {rows}"

    def check_processor(self) -> str:
        config, images = self.config, self.processor.image_processor
        high_size = images.high_res_size["height"] if images.high_res_size else None
        pairs = {
            "tile size": (images.size["height"], config.tile_size),
            "high-res tile size": (high_size, config.high_res_tile_size),
            "tokens per tile": (
                self.processor.tokens_per_tile,
                self.model.model.tokens_per_tile,
            ),
        }
        for name, (in_processor, in_model) in pairs.items():
            if in_processor != in_model:
                raise ValueError(f"The {name} is {in_processor} in the processor and {in_model} in the model.")
        self.processor.check_model(config)
        return ", ".join(f"{name} {value}" for name, (value, _) in pairs.items())

    def check_chat_template(self) -> str:
        template, token = cast(str, self.processor.chat_template), self.processor.image_token
        if not template or not places_images(self.processor.tokenizer, template, token):
            raise ValueError(f"The chat template does not write {token!r} where a message has an image.")
        return f"writes {token!r}"

    def check_generation(self) -> str:
        template, tokenizer = cast(str, self.processor.chat_template), self.processor.tokenizer
        wrong = []
        if self.json_files.get("tokenizer_config.json", {}).get("padding_side") != "left":
            wrong.append("tokenizer_config.json does not say `padding_side: left`, so batches are answered wrongly")
        generation = GenerationConfig.from_pretrained(self.folder, local_files_only=True)
        if not {*self.config.placeholder_ids()} <= {*(generation.suppress_tokens or ())}:
            wrong.append("`suppress_tokens` of generation_config.json lacks placeholders, so models may generate them")
        written = control_tokens(tokenizer, template or "", self.processor.image_token)
        if unescaped := unescaped_tokens(tokenizer, template or "", written):
            wrong.append(
                f"the chat template does not escape {unescaped[0]!r} in a message, so over HTTP users write it"
            )
        if wrong:
            raise ValueError(
                f"Where fila is not installed: {'; '.join(wrong)}. Open model and processor with this fila, and call "
                "`save_pretrained` of both."
            )
        return f"pads on the left, suppresses placeholders, escapes {len(written)} control tokens"

    def check_values(self) -> str:
        for key, tensor in self.tensors.items():
            for piece in tensor.pieces():
                if not torch.isfinite(piece).all():
                    raise ValueError(f"{key!r} in {tensor.file.name} holds NaN or infinity.")
        return f"{len(self.tensors)} tensors read"

    def check_forward(self, trust_remote_code: bool, timeout: float) -> str:
        remote = not self.is_without_code and (trust_remote_code or not self.foreign_code)
        with tempfile.TemporaryDirectory() as scratch:
            environment = os.environ | {
                "HF_HUB_OFFLINE": "1",
                "HF_MODULES_CACHE": scratch,
                "TOKENIZERS_PARALLELISM": "false",
            }
            if not remote:
                root = str(Path(str(version.__file__)).parents[1])
                environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
            script = Path(__file__).resolve().with_name("open_checkpoint.py")
            mode = "remote" if remote else "installed"
            process = subprocess.run(
                [sys.executable, "-P", str(script), str(self.folder.resolve()), mode],
                env=environment,
                cwd=scratch,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        if process.returncode:
            raise RuntimeError((process.stderr.strip() or f"exit code {process.returncode}").splitlines()[-1])
        seen = json.loads(process.stdout.strip().splitlines()[-1])
        if seen["missing"] or seen["unexpected"]:
            raise RuntimeError(f"Keys missing: {seen['missing'][:1]}, unexpected: {seen['unexpected'][:1]}.")
        if not seen["finite"]:
            raise RuntimeError("The logits are not finite.")
        code = "code of the checkpoint" if remote else "installed fila"
        return f"{seen['tokens']} tokens in, logits {seen['logits']}, {code}"


def _read_index(folder: Path, name: str) -> set[str]:
    """Return the files that an index names; none if there is no index."""
    index = read_json(folder / name) if (folder / name).is_file() else {}
    weight_map = index.get("weight_map")
    return set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()


def _auto_maps(value: object, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, contents) for every `auto_map` in nested dicts and lists."""
    if isinstance(value, list):
        value = {str(index): item for index, item in enumerate(value)}
    for key, item in value.items() if isinstance(value, dict) else ():
        here = f"{place}.{key}".lstrip(".")
        if key == "auto_map" and item:
            yield here, item if isinstance(item, dict) else {"": item}
        else:
            yield from _auto_maps(item, here)


def _strings(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every string in nested lists and dicts."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{place}[{index}]")
