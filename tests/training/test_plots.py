# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import sys
from pathlib import Path

import pytest
from PIL import Image

from fila.training.evaluation import Score
from fila.training.plots import plot_accuracy, plot_loss, plot_shares

LOG = [{"loss": 5 / step, "step": step} for step in range(1, 9)] + [{"eval_loss": 1.0, "step": 8}]
SCORES = {"up to 4": Score(10, 0.9, 0.6, 0.98, 0.02), "over 4": Score(3, 1.0, 0.44, 1.0, 0.0)}


def colours(path: Path) -> int:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1200, 675)
        return len(image.convert("RGB").getcolors(1_000_000))


def test_loss_is_drawn(tmp_path: Path) -> None:
    one = plot_loss(LOG[:8], tmp_path / "one.png")
    both = plot_loss(LOG, tmp_path / "both.png")
    assert 10 < colours(one) < colours(both)


def test_accuracy_is_drawn_for_one_and_several_models(tmp_path: Path) -> None:
    one = plot_accuracy({"model": SCORES}, tmp_path / "one.png", xlabel="tile_cap_height")
    several = plot_accuracy({"model": SCORES, "tiles only": {"up to 4": SCORES["up to 4"]}}, tmp_path / "several.png")
    assert 10 < colours(one) < colours(several)


def test_shares_of_several_runs_are_drawn(tmp_path: Path) -> None:
    runs = {
        name: [{"step": step, "accuracy": step / 9} for step in range(count)] for name, count in (("a", 4), ("b", 9))
    }
    one = plot_shares({"a": runs["a"]}, tmp_path / "one.png", key="accuracy", title="Warm-ups")
    two = plot_shares(runs, tmp_path / "two.png", key="accuracy", title="Warm-ups")
    assert 10 < colours(one) < colours(two)


def test_nothing_to_plot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a logged `accuracy` to plot; the 1 entries of a hold none"):
        plot_shares({"a": [{"step": 1}]}, tmp_path / "a.png", key="accuracy", title="")
    with pytest.raises(ValueError, match="must be a logged loss to plot; the 1 entries hold none"):
        plot_loss([{"step": 1}], tmp_path / "a.png")
    with pytest.raises(ValueError, match="must be a bucket to plot; the scores hold none"):
        plot_accuracy({}, tmp_path / "a.png")


def test_without_matplotlib_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"Plots need matplotlib.*`pip install matplotlib`"):
        plot_loss(LOG, tmp_path / "a.png")
