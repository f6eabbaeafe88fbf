# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Plots of a training run: loss over steps, and accuracy by bucket with intervals. They need matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fila.conversion.output import written_file

from .evaluation import Score

_WIDTH, _HEIGHT = 8.0, 4.5  # inches at 150 dots


def new_axes(title: str) -> tuple[Any, Any]:
    """Return a figure and its axes, in the style of all plots."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed. Install it with `pip install matplotlib`."
        ) from error
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def plot_loss(log_history: Sequence[Mapping[str, Any]], path: Path, *, title: str = "Training loss") -> Path:
    """Draw the losses that a Trainer logged.

    Args:
        log_history: `trainer.state.log_history`.
        path: PNG to write.
        title: Above the plot.

    Raises:
        ValueError: If no loss was logged.
        ImportError: Without matplotlib.
    """
    figure, axes = new_axes(title)
    for name, label in (("loss", "training"), ("eval_loss", "evaluation")):
        points = [(entry["step"], entry[name]) for entry in log_history if name in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 40 else None)
    if not axes.lines:
        raise ValueError(f"There must be a logged loss to plot; the {len(log_history)} entries hold none.")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    with written_file(path) as partial:
        figure.savefig(partial, format="png")
    return path


def plot_shares(logs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, *, key: str, title: str) -> Path:
    """Draw a share that several runs logged, each over its own steps.

    Args:
        logs: Name of the run to its `log_history`.
        path: PNG to write.
        key: What was logged, from 0 to 1.
        title: Above the plot.

    Raises:
        ValueError: If a run logged nothing of it.
        ImportError: Without matplotlib.
    """
    figure, axes = new_axes(title)
    for name, log_history in logs.items():
        points = [(entry["step"], entry[key]) for entry in log_history if key in entry]
        if not points:
            raise ValueError(
                f"There must be a logged `{key}` to plot; the {len(log_history)} entries of {name} hold none."
            )
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
    axes.set(xlabel="step", ylabel=key, ylim=(0, 1.02))
    axes.legend(frameon=False)
    with written_file(path) as partial:
        figure.savefig(partial, format="png")
    return path


def plot_accuracy(
    series: Mapping[str, Mapping[str, Score]], path: Path, *, xlabel: str = "", title: str = "Exact match"
) -> Path:
    """Draw bars of exact match by bucket, with 95 % intervals and the number of questions.

    Args:
        series: One set of bars per model: its name to bucket to score; buckets in the order of the first.
        path: PNG to write.
        xlabel: What the buckets are of.
        title: Above the plot.

    Raises:
        ValueError: If there is no bucket.
        ImportError: Without matplotlib.
    """
    labels = list(dict.fromkeys(label for scores in series.values() for label in scores))
    if not labels:
        raise ValueError("There must be a bucket to plot; the scores hold none.")
    figure, axes = new_axes(title)
    width = 0.8 / len(series)
    for number, (name, scores) in enumerate(series.items()):
        for label, score in scores.items():
            place = labels.index(label) + (number - (len(series) - 1) / 2) * width
            share = score.exact_match
            ends = [[max(0.0, share - score.low)], [max(0.0, score.high - share)]]
            first = name if label == next(iter(scores)) else None
            axes.bar(place, share, width * 0.92, color=f"C{number}", label=first)
            axes.errorbar(place, share, yerr=ends, color="black", linewidth=1, capsize=3)
            axes.annotate(f"n={score.count}", (place, 0), (0, 3), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel=xlabel, ylabel="exact match, 95 % interval", ylim=(0, 1.02))
    if len(series) > 1:
        axes.legend(frameon=False)
    with written_file(path) as partial:
        figure.savefig(partial, format="png")
    return path
