# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every entry of the fusion and connector tables keeps its family's promise.

A new line in a table is tested at once, with its default options (`settings.py`).
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file

from fila import FilaForConditionalGeneration, FilaVisionModel
from fila.conversion.new_weights import initial_weights
from fila.modeling.connector import CONNECTORS, build_connector
from fila.modeling.fusion import FUSIONS
from fila.systems.meta_model import model_on_meta
from tests.contract import stranger
from tests.contract.settings import configs, connector_settings, fitting_processor, fusion_settings
from tests.helpers import assert_close, random_image, randomise, tiny_config
from tests.modeling.geometry import encoder_inputs

CONFIGS = configs()
GRIDS = [(1, 2), (1, 1), (2, 1)]
NUM_VIEWS = [3, 1, 3]

# A bias that adds the same to every key: softmax does not see it, and its gradient is zero but for rounding.
UNSEEN = ("k_proj.bias", "mining.key.0.bias", "mining.key.1.bias")

each_fusion = pytest.mark.parametrize("name", FUSIONS)
each_connector = pytest.mark.parametrize("name", CONNECTORS)
each_part = pytest.mark.parametrize("name", CONFIGS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def encoder(name: str) -> FilaVisionModel:
    model = FilaVisionModel(tiny_config(**fusion_settings(name))).eval()
    randomise(model)
    return model


def encoder_batch(model: FilaVisionModel, grids: list[tuple[int, int]], **options: Any) -> dict[str, torch.Tensor]:
    return encoder_inputs(grids, high_res=model.high_res_tower is not None, **options)


def whole_model(name: str) -> FilaForConditionalGeneration:
    model = FilaForConditionalGeneration(CONFIGS[name]).eval()
    randomise(model)
    return model


def two_samples(model: FilaForConditionalGeneration) -> Any:
    """Two images with different numbers of tiles, and an answer to each."""
    batch = fitting_processor(model)(
        text=["<image> ab", "<image> cd"],
        images=[[random_image(20, 50)], [random_image(28, 27, seed=1)]],
        padding=True,
        return_tensors="pt",
    )
    return dict(batch) | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


@each_dtype
@each_fusion
def test_fusion_makes_the_tokens_it_promises(name: str, dtype: torch.dtype) -> None:
    model = encoder(name).to(dtype)
    features = model(**encoder_batch(model, GRIDS, dtype=dtype)).last_hidden_state
    rows, cols = model.fusion.output_grid
    assert features.shape == (sum(NUM_VIEWS), rows * cols, model.fusion.output_size)
    assert features.dtype == dtype
    assert features.isfinite().all()


@each_part
@torch.no_grad()
def test_offloaded_weights_give_the_same_logits(name: str) -> None:
    """Weights that wait elsewhere are there in calls of their modules alone."""
    model = whole_model(name)
    batch = two_samples(model)
    expected = model(**batch).logits
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert_close(model(**batch).logits, expected)


@each_part
def test_part_trains_under_autocast(name: str) -> None:
    model = whole_model(name).train()
    batch = two_samples(model)
    expected = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert abs(loss - expected) <= 0.05 * expected  # bfloat16 keeps 8 bits
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@each_fusion
def test_image_features_do_not_depend_on_the_batch(name: str) -> None:
    model = encoder(name).double()
    batch = encoder_batch(model, GRIDS, dtype=torch.float64)
    together = model(**batch).last_hidden_state.split(NUM_VIEWS)
    for index, expected in enumerate(together):
        alone = model(**{key: value[index : index + 1] for key, value in batch.items()}).last_hidden_state
        assert_close(alone, expected, 1e-6)  # positions of a fusion are float32: measured 5.1e-9


@each_fusion
def test_every_module_is_called_once_whatever_the_batch(name: str) -> None:
    """Sharded training gathers weights at calls: every process must make the same."""
    model = encoder(name)
    calls: Counter[str] = Counter()
    for key, module in model.fusion.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda module, inputs, output, key=key: calls.update([key]))
    for grids in (GRIDS, [(1, 1)], [(2, 2), (2, 2)]):
        calls.clear()
        model(**encoder_batch(model, grids))
        holders = {key for key, module in model.fusion.named_modules() if list(module.parameters(recurse=False))}
        assert calls == dict.fromkeys(holders, 1)


@each_fusion
def test_frozen_encoder_records_no_graph(name: str) -> None:
    model = whole_model(f"fusion-{name}").train()
    model.model.vision_tower.requires_grad_(False)
    model.enable_input_require_grads()
    batch = encoder_batch(model.model.vision_tower, GRIDS)
    assert not model.model.vision_tower(**batch).last_hidden_state.requires_grad


def counting() -> tuple[list[int], Any]:
    """A backend of torch.compile, and how many operations each graph has that came to it."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        sizes.append(sum(node.op.startswith("call_") for node in graph.graph.nodes))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    torch._dynamo.reset()  # code that was compiled for eight models runs eagerly for the next
    return sizes, backend


@torch.no_grad()
def test_compiled_encoder_equals_eager() -> None:
    model = encoder("cvfm")
    batch = encoder_batch(model, GRIDS)
    expected = model(**batch).last_hidden_state
    sizes, backend = counting()
    compiled = torch.compile(model, backend=backend)
    assert_close(compiled(**batch).last_hidden_state, expected)
    assert sum(sizes) >= 600, sizes  # measured 780: towers, layers and taps


@each_fusion
@torch.no_grad()
def test_compiled_fusion_equals_eager(name: str) -> None:
    model = encoder(name)
    batch = encoder_batch(model, GRIDS)
    expected = model(**batch).last_hidden_state
    sizes, backend = counting()
    for method in ("fuse", "finish"):
        compiled = torch.compile(getattr(model.fusion, method), backend=backend, fullgraph=True)
        setattr(model.fusion, method, compiled)
    assert_close(model(**batch).last_hidden_state, expected)
    assert sizes or name == "none"


@each_dtype
@each_connector
def test_connector_makes_as_many_tokens_as_it_promises(name: str, dtype: torch.dtype) -> None:
    config = tiny_config(**connector_settings(name))
    connector = build_connector(config, input_size=20).to(dtype)
    randomise(connector)
    tokens = connector(torch.randn(3, 4 * 6, 20, dtype=dtype), (4, 6))
    assert tokens.shape == (3, connector.tokens_per_tile((4, 6)), config.text_config.hidden_size)
    assert tokens.dtype == dtype
    assert tokens.isfinite().all()


@each_connector
@torch.no_grad()
def test_connector_takes_grids_one_by_one(name: str) -> None:
    connector = build_connector(tiny_config(**connector_settings(name)), input_size=20)
    randomise(connector)
    features = torch.randn(3, 4 * 6, 20)
    assert_close(connector(features, torch.tensor([[4, 6]] * 3)), connector(features, (4, 6)))


@each_connector
@torch.no_grad()
def test_compiled_connector_equals_eager(name: str) -> None:
    connector = build_connector(tiny_config(**connector_settings(name)), input_size=20)
    randomise(connector)
    features = torch.randn(3, 4 * 6, 20)
    compiled = torch.compile(connector, backend="aot_eager", fullgraph=True)
    assert_close(compiled(features, (4, 6)), connector(features, (4, 6)))


@each_part
def test_gradient_reaches_every_parameter(name: str) -> None:
    model = whole_model(name).double()
    batch = {key: x.double() if x.is_floating_point() else x for key, x in two_samples(model).items()}
    model(**batch).loss.backward()
    new = [*model.model.vision_tower.named_parameters(), *model.model.multi_modal_projector.named_parameters()]
    silent = [key for key, p in new if p.grad is None or not p.grad.abs().max() > 0]
    assert [key for key in silent if not key.endswith(UNSEEN)] == []


@each_part
def test_saved_model_answers_the_same(name: str, tmp_path: Path) -> None:
    model = whole_model(name)
    batch = two_samples(model)
    model.save_pretrained(tmp_path)
    loaded, report = FilaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)


@each_part
def test_new_weights_are_set_when_a_checkpoint_lacks_them(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = FilaForConditionalGeneration(CONFIGS[name])
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    new = ("model.vision_tower.fusion.", "model.multi_modal_projector.")
    kept = {key: value for key, value in weights.items() if not key.startswith(new)}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = FilaForConditionalGeneration.from_pretrained(tmp_path)
    for key, value in loaded.state_dict().items():
        if key.startswith(new):
            reference = weights[key]
            assert value.isfinite().all(), key
            assert value.std(correction=0) <= 1.5 * reference.std(correction=0) + 1e-6, key
            assert bool(value.any()) == bool(reference.any()), key


@each_part
def test_assembly_sets_every_new_weight(name: str) -> None:
    # memory that nobody wrote reads as NaN here
    new = ["model.vision_tower.fusion", "model.multi_modal_projector"]
    values = initial_weights(model_on_meta(CONFIGS[name]), new, seed=3)
    assert [key for key, value in values.items() if not value.isfinite().all()] == []


@each_part
def test_part_names_an_option_that_it_does_not_have(name: str) -> None:
    family, part = name.split("-")
    options = getattr(CONFIGS[name], family) | {"nonsense": 1}
    config = tiny_config(
        **(fusion_settings(part) if family == "fusion" else connector_settings(part)) | {family: options}
    )
    with pytest.raises(ValueError, match=rf"{family.capitalize()} '{part}' has no option \['nonsense'\]; it accepts"):
        FilaForConditionalGeneration(config)


@each_part
def test_loss_falls_when_fusion_and_connector_train(name: str) -> None:
    model = whole_model(name).train().requires_grad_(False)
    new = [*model.model.vision_tower.fusion.parameters(), *model.model.multi_modal_projector.parameters()]
    if not new:
        new = list(model.model.vision_tower.parameters())
    optimiser = torch.optim.Adam([parameter.requires_grad_() for parameter in new], lr=0.02)
    batch = two_samples(model)
    batch["labels"][batch["input_ids"] == model.config.image_token_id] = -100
    losses = []
    for _ in range(12):
        loss = model(**batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0], losses


def test_checkpoints_answer_alike_without_fila(tmp_path: Path) -> None:
    """All parts, one process in which `fila` cannot be imported: its code lies beside each one's weights."""
    expected = {}
    for name in CONFIGS:
        model = whole_model(name)
        batch = two_samples(model)
        model.save_pretrained(tmp_path / "checkpoints" / name)
        save_file({key: x.contiguous() for key, x in batch.items()}, tmp_path / "checkpoints" / name / "batch.bin")
        with torch.no_grad():
            expected[name] = model(**batch).logits
    command = [sys.executable, "-I", stranger.__file__, tmp_path / "checkpoints", tmp_path / "logits.safetensors"]
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = load_file(tmp_path / "logits.safetensors")
    assert set(found) == set(expected)
    for name, logits in expected.items():
        assert_close(found[name], logits)
