# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""How well the confidence in answers foretells which are right: a table, the calibration error, and a plot.

fila evaluate fila/assets/default_model --data PAGES/pages.jsonl --output RUN
python benchmarks/calibration.py RUN/answers.jsonl docs/images/calibration.png
"""

import json
import sys
from pathlib import Path

from fila.training.confidence import calibration_error, reliability

THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)


def main(answers: Path, picture: Path | None) -> None:
    """Print the tables and draw the plot."""
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    confidences, right = [row["confidence"] for row in rows], [bool(row["exact"]) for row in rows]
    bins = reliability(confidences, right)
    print(
        f"{len(rows)} answers, {sum(right) / len(rows):.1%} right; calibration error {calibration_error(bins):.3f}\n"
    )
    print("| confidence | answers | mean confidence | right |\n|---|---:|---:|---:|")
    for each in bins:
        if each.count:
            print(
                f"| {each.low:.1f} to {each.high:.1f} | {each.count} | {each.confidence:.3f} | {each.accuracy:.3f} |"
            )
    print("\n| `--min-confidence` | answered | right of these |\n|---|---:|---:|")
    for threshold in THRESHOLDS:
        kept = [good for sure, good in zip(confidences, right, strict=True) if sure >= threshold]
        print(f"| {threshold} | {len(kept) / len(rows):.1%} | {sum(kept) / max(1, len(kept)):.1%} |")
    if picture is not None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axis = pyplot.subplots(figsize=(4.5, 4.5))
        axis.plot([0, 1], [0, 1], color="gray", linewidth=1)
        shown = [each for each in bins if each.count]
        axis.scatter(
            [each.confidence for each in shown],
            [each.accuracy for each in shown],
            s=[4 + each.count / 3 for each in shown],
        )
        axis.set_xlabel("mean confidence")
        axis.set_ylabel("share of right answers")
        figure.savefig(picture, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
