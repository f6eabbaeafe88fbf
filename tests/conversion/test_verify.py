# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fila
from fila import FilaProcessor
from fila.conversion.assemble import assemble
from fila.conversion.verify import Check, verify
from fila.processing.chat_template import DEFAULT_CHAT_TEMPLATE
from tests.conversion.parts import edit_json, write_clip, write_convnext, write_text

EMBEDDING = "model.language_model.embed_tokens.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sharded checkpoint without fault."""
    root = tmp_path_factory.mktemp("verify")
    write_clip(root / "clip")
    write_convnext(root / "convnext")
    write_text(root / "text")
    return assemble(
        root / "clip", root / "convnext", root / "text", root / "good", max_shard_size="60KB", progress=False
    )


def _failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


def test_verify_finds_no_fault_in_what_assemble_wrote(good: Path) -> None:
    checks = verify(good, forward=False, values=True)
    assert _failed(checks) == {}
    assert len(checks) == 14


def test_verify_opens_the_checkpoint_in_a_process_without_fila(good: Path) -> None:
    checks = verify(good)
    assert _failed(checks) == {}
    assert checks[-1].detail.endswith("code of the checkpoint")


def test_verify_does_not_run_code_that_it_does_not_know(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "edited")
    with open(folder / "modeling_fila.py", "a") as file:
        file.write("\nraise RuntimeError('run')\n")
    checks = verify(folder)
    assert list(_failed(checks)) == ["remote code is fila's"]
    assert checks[-1].detail.endswith("installed fila")


def test_verify_accepts_other_code_if_told(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "edited")
    (folder / "modeling_fila.py").write_text((folder / "modeling_fila.py").read_text() + "\n")
    checks = verify(folder, forward=False, trust_remote_code=True)
    assert _failed(checks) == {}
    assert [check.detail for check in checks if check.name == "remote code is fila's"] == [
        "trusted, 1 differ: modeling_fila.py (different)"
    ]


def _shard_of(folder: Path, key: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][key]


def _edit(folder: Path, key: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    shard = _shard_of(folder, key)
    state = load_file(shard)
    save_file({**state, key: change(state[key]).contiguous()}, shard, metadata={"format": "pt"})


def _with_nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor[3, 5] = float("nan")
    return tensor


def _nested(folder: Path, name: str, section: str, **changes: object) -> None:
    contents = json.loads((folder / name).read_text())
    edit_json(folder / name, **{section: contents[section] | changes})


def _forget(folder: Path) -> None:
    """Let the model's config not say what the model was trained with."""
    edit_json(folder / "config.json", preprocessing=None)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing shard": (
        lambda f: _shard_of(f, EMBEDDING).unlink(),
        "weights are readable",
        r"names 'model-0000\d-of-.*', which is missing",
    ),
    "truncated shard": (
        lambda f: _shard_of(f, EMBEDDING).write_bytes(_shard_of(f, EMBEDDING).read_bytes()[:-8]),
        "weights are readable",
        "is truncated",
    ),
    "wrong shape": (
        lambda f: _edit(f, EMBEDDING, lambda t: t[:-1]),
        "keys and shapes fit the model",
        r"'model\.language_model\.embed_tokens\.weight' must have shape \(320, 24\); model-.* gives \(319, 24\)",
    ),
    "wrong dtype": (
        lambda f: _edit(f, EMBEDDING, lambda t: t.half()),
        "one dtype",
        r"config\.json says torch\.float32; the weights are torch\.float16, torch\.float32",
    ),
    "not a number": (
        lambda f: _edit(f, EMBEDDING, _with_nan),
        "values are finite",
        r"embed_tokens.* holds NaN or infinity",
    ),
    "wrong token id": (
        lambda f: edit_json(f / "config.json", image_token_id=7),
        "token ids fit the vocabulary",
        r"`image_token_id` is 7; the tokenizer gives '<image>' the id 259",
    ),
    "stop id outside": (
        lambda f: edit_json(f / "generation_config.json", eos_token_id=[2, 320]),
        "token ids fit the vocabulary",
        r"generation_config\.eos_token_id has the id 320, outside the vocabulary of 320 rows",
    ),
    "no stop id": (
        lambda f: edit_json(f / "generation_config.json", eos_token_id=None),
        "token ids fit the vocabulary",
        "no end-of-text or no pad token",
    ),
    "missing code": (
        lambda f: (f / "fusion_cvfm.py").unlink(),
        "remote code is complete",
        r"fusion_cvfm\.py is missing; without it",
    ),
    "missing auto_map entry": (
        lambda f: edit_json(f / "config.json", auto_map={"AutoConfig": "configuration_fila.FilaConfig"}),
        "remote code is complete",
        r"config\.json has no `auto_map` entry for AutoModel, AutoModelForImageTextToText",
    ),
    "edited code": (
        lambda f: (f / "modeling_fila.py").write_text("import os\n"),
        "remote code is fila's",
        r"Code must be what fila .* writes; 1 differ: modeling_fila\.py \(different\)\. .* Pass `trust_remote_code`",
    ),
    "foreign processor code": (
        lambda f: (
            (f / "evil.py").touch(),
            edit_json(f / "processor_config.json", auto_map={"AutoProcessor": "evil.Evil"}),
        ),
        "remote code is fila's",
        r"2 differ: evil\.py \(not of fila\), `auto_map\.AutoProcessor` of processor_config\.json \(evil\.Evil\)",
    ),
    "another class of ours": (
        lambda f: edit_json(f / "processor_config.json", auto_map={"AutoProcessor": "modeling_fila.FilaModel"}),
        "remote code is fila's",
        r"`auto_map\.AutoProcessor` of processor_config\.json \(modeling_fila\.FilaModel\)",
    ),
    "code of a repository": (
        lambda f: edit_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["a/b--layout.Tok", None]}),
        "remote code is fila's",
        r"`auto_map\.AutoTokenizer` of tokenizer_config\.json \(\['a/b--layout\.Tok', None\]\)",
    ),
    "code of a section": (
        lambda f: _nested(f, "config.json", "text_config", auto_map={"AutoConfig": "evil.Evil"}),
        "remote code is fila's",
        r"`text_config\.auto_map\.AutoConfig` of config\.json \(evil\.Evil\)",
    ),
    "code of generation": (
        lambda f: ((f / "custom_generate").mkdir(), (f / "custom_generate" / "generate.py").touch()),
        "remote code is fila's",
        r"1 differ: custom_generate/generate\.py \(not of fila\)",
    ),
    "weights of another name": (
        lambda f: save_file({"a": torch.zeros(1)}, f / "weights.safetensors"),
        "weights have names that load",
        r"Weights must be model\.safetensors, or .*; transformers does not load weights\.safetensors\.",
    ),
    "weights twice": (
        lambda f: save_file({"a": torch.zeros(1)}, f / "model.safetensors"),
        "weights have names that load",
        r"transformers does not load model-00001-of-.*, model\.safetensors\.index\.json\.",
    ),
    "no weights": (
        lambda f: [path.unlink() for path in f.glob("model*")],
        "weights have names that load",
        r"Weights must be model\.safetensors, .*; there are none\.",
    ),
    "other weights by the config": (
        lambda f: edit_json(f / "config.json", transformers_weights="other.safetensors"),
        "weights have names that load",
        r"config\.json names other weights in `transformers_weights`, 'other\.safetensors'",
    ),
    "missing file": (
        lambda f: (f / "generation_config.json").unlink(),
        "files are complete",
        r"Missing: generation_config\.json",
    ),
    "pickle": (lambda f: (f / "optimizer.pt").touch(), "no pickles", r"'optimizer\.pt' can run code"),
    "absolute path": (
        lambda f: _nested(f, "config.json", "text_config", rope_parameters={"rope_type": "/home/me"}),
        "no paths in configs",
        r"config\.json has '/home/me' at text_config\.rope_parameters\.rope_type",
    ),
    "hub id": (
        lambda f: _nested(f, "config.json", "text_config", _name_or_path="owner/name"),
        "no paths in configs",
        r"config\.json has 'owner/name' at text_config\._name_or_path",
    ),
    "hub id elsewhere": (
        lambda f: edit_json(f / "processor_config.json", source="owner/name"),
        "no paths in configs",
        r"processor_config\.json has 'owner/name' at source",
    ),
    "foreign tokenizer code": (
        lambda f: edit_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Tok", None]}),
        "remote code is complete",
        r"tok\.py is missing",
    ),
    "wrong tokens per tile": (
        lambda f: (_forget(f), edit_json(f / "processor_config.json", tokens_per_tile=9)),
        "processor fits the model",
        "The tokens per tile is 9 in the processor and 16 in the model",
    ),
    "wrong tile size": (
        lambda f: (_forget(f), _nested(f, "processor_config.json", "image_processor", size=35)),
        "processor fits the model",
        "The tile size is 35 in the processor and 28 in the model",
    ),
    "wrong high-res size": (
        lambda f: (_forget(f), _nested(f, "processor_config.json", "image_processor", high_res_size=64)),
        "processor fits the model",
        "The high-res tile size is 64 in the processor and 128 in the model",
    ),
    "other preprocessing": (
        lambda f: _nested(f, "processor_config.json", "image_processor", image_mean=[0.5, 0.25, 0.125]),
        "processor fits the model",
        r"`image_mean` is \[0\.5, 0\.25, 0\.125\] here and was \[0\.48145466, .*\] in training",
    ),
    "template without images": (
        lambda f: (f / "chat_template.jinja").write_text("{{ messages[0]['role'] }}"),
        "chat template places images",
        "does not write '<image>' where a message has an image",
    ),
    "older padding": (
        lambda f: edit_json(f / "tokenizer_config.json", padding_side="right"),
        "answers in batches and to strangers",
        r"tokenizer_config\.json does not say `padding_side: left`.* `save_pretrained` of both",
    ),
    "older generation config": (
        lambda f: edit_json(f / "generation_config.json", suppress_tokens=None),
        "answers in batches and to strangers",
        r"`suppress_tokens` of generation_config\.json lacks placeholders",
    ),
    "older template": (
        lambda f: (f / "chat_template.jinja").write_text(DEFAULT_CHAT_TEMPLATE),
        "answers in batches and to strangers",
        "the chat template does not escape '.*' in a message, so over HTTP users write it",
    ),
    "unknown setting": (
        lambda f: edit_json(f / "config.json", fusoin={}),
        "keys and shapes fit the model",
        "has no setting `fusoin`; did you mean `fusion`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_catches(good: Path, tmp_path: Path, fault: str) -> None:
    spoil, name, message = FAULTS[fault]
    folder = shutil.copytree(good, tmp_path / "spoilt")
    spoil(folder)
    failed = _failed(verify(folder, forward=False, values=True))
    assert name in failed
    assert re.search(message, failed[name])


def test_verify_tells_what_the_process_said(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "spoilt")
    _shard_of(folder, EMBEDDING).unlink()
    failed = _failed(verify(folder))
    assert "opens offline and runs" in failed
    assert "model-0000" in failed["opens offline and runs"]


def test_assembled_model_keeps_the_settings_of_its_processor(good: Path) -> None:
    kept = json.loads((good / "config.json").read_text())["preprocessing"]
    assert kept == FilaProcessor.from_pretrained(good).preprocessing()


def test_verify_rejects_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="none is not a folder"):
        verify(tmp_path / "none")


def test_a_folder_that_names_no_code_needs_none() -> None:
    shipped = Path(fila.__file__).parent / "assets" / "default_model"
    checks = verify(shipped, forward=False)
    assert _failed(checks) == {}
    assert "loads where fila is installed" in {check.name: check.detail for check in checks}["remote code is complete"]
