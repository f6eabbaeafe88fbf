# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Writes docs/transformers_names.md, every name of transformers that the package imports, overrides or relies on.

    python docs/make_transformers_names.py docs

Found are imports and `transformers.name`; what a class of ours defines and its base in transformers has too; and
attributes with a leading underscore that nothing of ours sets. A name is

- public: `transformers` exports it, or a module of it that is no model's file does, without a leading underscore;
- for models: with a leading underscore or from a model's file, and transformers' guides for authors of models name it
  or most of its own models are written with it (`FOR_MODELS`);
- private: every other one (`PRIVATE`), with its reason.
"""

import ast
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("modeling", "processing", "conversion", "training", "fila")

DOCS = "https://huggingface.co/docs/transformers/main"
GUIDE = f"[Inference backends]({DOCS}/community_integrations/transformers_as_backend)"
PLANS = "a plan or flag that the class of nearly every model sets"
FOR_MODELS = {
    "_attn_implementation": GUIDE,
    "_supports_attention_backend": GUIDE,
    "_get_num_multimodal_tokens": GUIDE,
    "_can_compile_fullgraph": PLANS,
    "_can_record_outputs": PLANS,
    "_fsdp_plan": PLANS,
    "_no_split_modules": PLANS,
    "_pp_plan": PLANS,
    "_skip_keys_device_placement": PLANS,
    "_supports_flash_attn": PLANS,
    "_supports_flex_attn": PLANS,
    "_supports_sdpa": PLANS,
    "_tied_weights_keys": PLANS,
    "_tp_plan": PLANS,
    "_forward": f"[the guide on pipelines]({DOCS}/add_new_pipeline) says to write it",
    "_from_config": "about 50 models build their parts with it",
    "_init_weights": "the rules for new weights; over 400 models have them",
    "_merge_kwargs": "about 90 processors sort their arguments with it",
    "_preprocess": "the docstring of `BaseImageProcessor` says to override it",
}
LAYERS = "a tower is built of it: states are tapped between layers, and outputs are recorded by the layer's class"
PRIVATE = {
    "CLIPAttention": LAYERS,
    "CLIPEncoderLayer": LAYERS,
    "CLIPVisionEmbeddings": LAYERS,
    "InternVLVisionAttention": LAYERS,
    "InternVLVisionEmbeddings": LAYERS,
    "InternVLVisionLayer": LAYERS,
    "SamLayerNorm": LAYERS,
    "SamVisionEncoder": LAYERS,
    "SamVisionNeck": LAYERS,
    "SiglipAttention": LAYERS,
    "SiglipEncoderLayer": LAYERS,
    "SiglipVisionEmbeddings": LAYERS,
    "_adjust_assistant_masks_indices": "newer versions mark the assistant's tokens, of dropped samples too",
    "_scaled_dot_product_flash_attention": "torch's operator; on meta its public function counts another one",
    "_auto_class": "a processor writes its own `auto_map`, and only this says that one is wanted",
    "_expand_inputs_for_generation": "older versions repeat images row by row for beams, which mixes samples up",
    "_from_model_config": "settings made of a config are saved as settings of their own, and no argument says so",
    "_get_default_generation_params": "lists the generation settings in old config files that transformers takes out",
    "_get_template_variables": "tells a chat template's arguments from the processor's, as `apply_chat_template` does",
    "_get_train_sampler": "the only place where Trainer takes a sampler",
    "_prepare_image_like_inputs": "images are loaded and checked here, so that an error has their sample and number",
    "_prepare_position_ids_for_generation": "positions that images share; about 30 models override it",
    "_is_stateful": "says that layers carry a state from token to token; about 20 models set it",
    "_preprocess_image_like_inputs": "the cache of images wraps an image's whole way; about 20 models override it",
    "_process_images": "writes the tokens of an image beside its pixels; about 10 processors override it",
    "_process_videos": "as `_process_images`; about 10 processors override it",
    "_require_grads_hooks": "hooks of towers that are no model of transformers are removed with those that are",
    "_standardize_kwargs": "checks the canvas where transformers checks its own; about 20 models override it",
    "_supports_mm_encoder_outputs": "sharded weights must not run before the forward pass of the whole model",
    "_validate_preprocess_kwargs": "as `_standardize_kwargs`; about 15 models override it",
}
# With a leading underscore, but of others.
NOT_TRANSFORMERS = {"_ConvNd", "_asdict", "_replace"}


def files() -> Iterator[tuple[str, ast.Module]]:
    """Yield the path inside the repository and the syntax tree of each file of the package."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported() -> dict[tuple[str, str], set[str]]:
    """Return the files that import each (module, name) of transformers."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for file, tree in files():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                for alias in node.names if node.module.split(".")[0] == "transformers" else ():
                    found[node.module, alias.name].add(file)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "transformers":
                found["transformers", node.attr].add(file)
    return found


def overridden() -> dict[str, set[str]]:
    """Return the files whose classes define each name that a base class in the installed transformers has."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for file, tree in files():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                name_of_module = f"fila.{file.removesuffix('.py').removeprefix('fila/').replace('/', '.')}"
                bases = getattr(importlib.import_module(name_of_module), node.name).__mro__
                theirs = [base for base in bases if base.__module__.startswith("transformers.")]
                for name in defined(node):
                    if not name.startswith("__") and any(name in vars(base) for base in theirs):
                        found[name].add(file)
    return found


def defined(cls: ast.ClassDef) -> Iterator[str]:
    """Yield the methods and attributes that the text of a class defines."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield ast.unparse(target)


def relied_on() -> dict[str, set[str]]:
    """Return the files that read each attribute with a leading underscore that nothing of ours sets."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    ours = set(NOT_TRANSFORMERS)
    for file, tree in files():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    ours.add(node.attr)
                else:
                    found[node.attr].add(file)
    return {name: where for name, where in found.items() if name not in ours}


def rows() -> dict[tuple[str, str], set[str]]:
    """Return the files of each (name, how it is used)."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for (module, name), where in imported().items():
        found[name, f"imported from `{module}`"] |= where
    for name, where in overridden().items():
        found[name, "overridden"] |= where
    for name, where in relied_on().items():
        found[name, "read or set"] |= where
    return dict(found)


def is_private(name: str, use: str) -> bool:
    """Whether transformers does not export a name: an underscore, or a layer out of a model's file."""
    return name.startswith("_") or (".models." in use and ".auto" not in use and not hasattr(transformers, name))


def kind(name: str, use: str) -> str:
    """Return the kind of a name: public, for models, private or unlisted."""
    if not is_private(name, use):
        return "public"
    return "for models" if name in FOR_MODELS else "private" if name in PRIVATE else "unlisted"


def page() -> str:
    """Return the text of the page."""
    found = rows()
    kinds = {key: kind(*key) for key in found}
    lines = [
        "# What we rely on of transformers",
        "",
        "Written by `python docs/make_transformers_names.py docs` out of the sources, with the newest supported",
        "transformers; `tests/repo/test_transformers_names.py` keeps it true, and fails at a private name without a",
        "reason. It lists what is imported, what our classes override, and attributes with a leading underscore that",
        "are read or set. Plain attributes and arguments of its objects cannot be told from ours, and are",
        "not here.",
        "",
    ]
    headings = {
        "private": (
            "Private",
            "Nothing is promised about these. Each has a reason, and `make newest` tries them.",
            "reason",
        ),
        "for models": (
            "For models",
            "With a leading underscore, but for authors of models, in transformers and in remote code.",
            "where it is documented or usual",
        ),
        "public": ("Public", "Exported by `transformers` or by one of its modules that is no model's file.", None),
    }
    for one, (heading, text, column) in headings.items():
        chosen = sorted(key for key in found if kinds[key] == one)
        lines += [f"## {heading}", "", f"{len({name for name, _ in chosen})} names. {text}", ""]
        lines.append("| name | use | where |" + (f" {column} |" if column else ""))
        lines.append("|---|---|---|" + ("---|" if column else ""))
        for name, use in chosen:
            where = sorted(found[name, use])
            shown = ", ".join(where[:4]) + (f" and {len(where) - 4} more" if len(where) > 4 else "")
            reason = f" {(PRIVATE | FOR_MODELS)[name]} |" if column else ""
            lines.append(f"| `{name}` | {use} | {shown} |{reason}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    Path(sys.argv[1], "transformers_names.md").write_text(page(), encoding="utf-8")
