# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The documents are true: examples run, commands have their options, links lead somewhere, tables name what exists.

The examples of docs/training.md and docs/training_scale.md are run by tests/training/test_docs_training.py and
test_scopes.py, the one of docs/serving.md, which needs vLLM, by no test.
"""

import importlib.util
import itertools
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from typer.main import get_command

from fila import VarImageProcessorPil
from fila.cli import app
from fila.cli.launcher import lora_paths
from fila.look.processed_image import Seen, look
from fila.modeling import connector, fusion
from fila.processing import canvas
from fila.processing.canvas_plan import Size
from tests.helpers import TILE, random_image, tiny_config, tiny_image_processor, tiny_model
from tests.modeling.tiny_var import tiny_generator, tiny_tokenizer_model
from tests.processing.videos import video_bytes
from tests.tiny_videos import video_model, video_processor

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def example(page: str, package: str = "fila", *, blocks: int = 1) -> dict[str, Any]:
    """Run the page's first Python blocks as a file of the package would run."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec("\n".join(found[:blocks]).replace("from .", f"from {package}."), names)
    return names


def test_readme_asks_a_checkpoint(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(checkpoint)
    random_image(53, 97).save("page.png")
    names = example("../README.md")
    assert 0 < len(names["answer"]) <= 64
    assert capsys.readouterr().out == names["processor"].decode(names["answer"], skip_special_tokens=True) + "\n"


def test_video_page_asks_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = video_model({"type": "mlp"})
    for part in (model, video_processor(model)):
        part.save_pretrained("video-checkpoint")
    Path("clip.mp4").write_bytes(video_bytes(9))
    names = example("video.md")
    assert names["inputs"]["pixel_values_videos"].shape[:2] == (1, 4)
    assert 0 < len(names["answer"]) <= 64


def test_ocr_page_shows_the_tasks_and_builds_serial_towers() -> None:
    names = example("ocr.md", blocks=2)
    assert names["tasks"]["text"] == "Free OCR. "
    assert names["config"].has_serial_towers
    assert names["grid"] == (20, 20)  # 640 pixels at the ConvNeXt's stride of 32


@pytest.mark.skipif(not hasattr(transformers, "UnlimitedOcrConfig"), reason="this transformers has no unlimited_ocr")
def test_ocr_page_stops_repetitions_with_the_rule_of_transformers(checkpoint: str) -> None:
    (block,) = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "ocr.md").read_text(encoding="utf-8"), re.DOTALL)
    block = block.replace("ngram_size=30, window_size=90", "ngram_size=2, window_size=9").replace("1024", "12")
    model = transformers.AutoModelForImageTextToText.from_pretrained(checkpoint)
    names: dict[str, Any] = {"model": model, "inputs": {"input_ids": torch.tensor([[7, 8, 9]])}}
    exec(block, names)
    made = names["answer"][0, -9:].tolist()
    assert len(set(itertools.pairwise(made))) == len(made) - 1


def test_codebook_page_encodes_and_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_tokenizer_model().save_pretrained("tokenizer")
    sizes: Any = {"size": {"shortest_edge": 18}, "crop_size": {"height": 16, "width": 16}}
    VarImageProcessorPil(**sizes).save_pretrained("tokenizer")
    tiny_generator(num_classes=1000).save_pretrained("generator")
    random_image(53, 97).save("photo.jpg")
    names = example("codebook.md", blocks=2)
    assert [found.shape for found in names["ids"]] == [(1, 1), (1, 4), (1, 16)]
    assert (len(names["pictures"]), len(names["steps"])) == (1, 3)
    assert names["made"].images.shape == (2, 3, 16, 16)


def test_fusion_of_the_docs_fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    sum_fusion = example("add_a_fusion.md", "fila.modeling")["SumFusion"]
    monkeypatch.setitem(fusion.FUSIONS, "sum", sum_fusion)
    model = tiny_model(fusion={"type": "sum", "align": "bilinear"})
    inputs = tiny_image_processor()(images=[random_image(53, 97)], return_tensors="pt")
    features = model.get_image_features(**inputs).pooler_output
    torch.stack([image.square().sum() for image in features]).sum().backward()
    gradient = model.model.vision_tower.fusion.project.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("size", "grid", "content"),
    [((28, 28), (1, 1), (0, 0, 28, 28)), ((29, 10), (2, 2), (0, 18, 56, 37)), ((1, 500), (3, 3), (41, 0, 42, 84))],
    ids=["28x28->1x1", "29x10->2x2", "1x500->3x3"],
)
def test_canvas_of_the_docs_plans(
    size: tuple[int, int], grid: tuple[int, int], content: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(canvas.CANVASES, "square", example("add_a_canvas.md", "fila.processing")["SquareCanvas"])
    plan = canvas.build_canvas({"type": "square", "max_side": 3}, (TILE, TILE))(*size)
    assert (plan.tile_grid, tuple(plan.content_box)) == (grid, content)


def test_connector_of_the_docs_makes_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connector.CONNECTORS, "pool", example("add_a_connector.md", "fila.modeling")["PoolConnector"])
    model = tiny_model(connector={"type": "pool"})
    part = model.model.multi_modal_projector
    assert part(torch.randn(3, 16, 20), (4, 4)).shape == (
        3,
        part.tokens_per_tile((4, 4)),
        model.config.text_config.hidden_size,
    )


def test_injection_of_the_docs_is_built() -> None:
    text = tiny_config().text_config.to_dict() | {"num_hidden_layers": 4}
    model = tiny_model(injection=example("injection.md")["config"].injection, text_config=text).model
    assert (model.injection.feature_layers, model.injection.before) == ([1, 4], (1, 2, 3))


def test_token_of_the_docs_shows_what_they_say() -> None:
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    names = example("images.md", "fila.processing")
    (view, row, col), box = names["place"], names["box"]
    assert f"# view {view}, row {row}, col {col}; {box}" in text
    told = look(pictures().eyes_of("fila"), names["seen"].image).tell(971)
    assert f"\n{told}\n" in text


def pictures() -> ModuleType:
    """The script that draws the pictures of docs/images.md."""
    spec = importlib.util.spec_from_file_location("make_pictures", ROOT / "docs" / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", canvas.CANVASES)
def test_images_page_tells_what_a_strategy_costs(name: str) -> None:
    text = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | "))
    cells = [cell.strip() for cell in row.split("|")][3:7]
    eyes = pictures().eyes_of(name)
    plans = [eyes.plan(Size(*size)) for size in ((1247, 1836), (3508, 2480), (336, 336))]
    picture = Image.new("L", (1, 1))
    shown = Seen(plans[0], Size(1247, 1836), picture, (), None, (), eyes.geometry(plans[0]).token_counts, ())
    assert cells == [*(f"{eyes.num_tokens(plan):,}" for plan in plans), f"{shown.real_share:.0%}"]
    assert f"(images/canvas_{name}.png)" in text


def test_pictures_are_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()]
    assert sum(sizes) < 1_500_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_the_source_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    examples = {"fusion_sum", "canvas_square", "connector_pool"}
    paths = re.findall(r"`((?:modeling|processing|conversion|fila|tests)/[\w/]+\.(?:py|png))", text)
    missing = [path for path in paths if not (ROOT / path).is_file() and not any(name in path for name in examples)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_are_written(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("fila ")]
    for line in lines:
        own, *_ = line.split(" -- ")  # what follows is another program's
        _, name, *words = shlex.split(own, comments=True)
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_has_the_targets_that_are_written(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", text, re.MULTILINE)) <= set(targets)


def test_serving_page_gives_vllm_what_it_can_read() -> None:
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    (words,) = [shlex.split(line) for line in blocks[0].splitlines() if line.startswith("vllm serve")]
    assert json.loads(words[words.index("--limit-mm-per-prompt") + 1]) == {"image": 2}
    request = json.loads(shlex.split(blocks[0])[-1])
    assert request["model"] == words[2]
    assert [part["type"] for part in request["messages"][0]["content"]] == ["image_url", "text"]
    (words,) = [shlex.split(line) for block in blocks for line in block.splitlines() if "--lora-modules" in line]
    assert lora_paths(words[3:]) == ["my-adapter"]


def test_index_lists_every_command() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `fila (\w+)` \|", index, re.MULTILINE)
    assert sorted(listed) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("table", [fusion.FUSIONS, connector.CONNECTORS, canvas.CANVASES], ids=["f", "c", "canvas"])
def test_overview_names_every_variant(table: dict[str, Any]) -> None:
    overview = (ROOT / "docs" / "overview.md").read_text(encoding="utf-8")
    assert [name for name in table if f"`{name}`" not in overview] == []


def test_every_cited_paper_is_in_the_index() -> None:
    index = (ROOT / "docs" / "paper_index.md").read_text(encoding="utf-8")
    sources = [path for folder in ("modeling", "processing", "conversion") for path in (ROOT / folder).glob("*.py")]
    cited = {number for path in sources for number in re.findall(r"arXiv:(\d{4}\.\d{5})", path.read_text("utf-8"))}
    assert {number for number in cited if number not in index} == set()
