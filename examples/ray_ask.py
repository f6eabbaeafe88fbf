# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Ask all questions of a data set with actors of Ray Data, on one machine or many.

    python examples/ray_ask.py my-checkpoint my-data.jsonl answers.jsonl --actors 8 --gpus 1

The lines are those of `fila ask --data`, in the order in which the actors finish. Run it again after a crash: it asks
what `answers.jsonl` lacks. Every machine needs fila, the checkpoint and the data under the same paths.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Asker:
    """Actor that answers the questions of rows, given by their numbers."""

    def __init__(self, checkpoint: str, data: str, done: frozenset[str] = frozenset(), **options: Any) -> None:
        # imported in the actor's own process, where importing fila registers its classes
        from fila.cli.ask import load_checkpoint
        from fila.training.answering import Answerer
        from fila.training.bulk import BulkAsker
        from fila.training.data import open_data

        model, processor = load_checkpoint(checkpoint)
        answerer = Answerer(model, processor, options.get("max_new_tokens", 256))
        dataset = open_data(data, processor)
        self.asker = BulkAsker(answerer, dataset, Path(data).name, batch_size=options.get("batch_size", 8))
        self.done = done

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return a line for each question of the rows."""
        batches = self.asker.lines([int(row) for row in rows["id"]], self.done)
        return {"line": [json.dumps(line, ensure_ascii=False) for lines in batches for line in lines]}


def main() -> None:
    """Ask, and append each line as soon as it is there."""
    import ray

    from fila.training.bulk import open_answers
    from fila.training.data import open_data

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data", help="what `fila ask --data` takes, but for generated pages")
    parser.add_argument("output", type=Path)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each actor")
    parser.add_argument("--batch-size", type=int, default=8, help="questions at once")
    parser.add_argument("--rows", type=int, default=64, help="rows that an actor gets at a time")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    given = parser.parse_args()
    data = str(Path(given.data).resolve())
    with open_answers(given.output) as (file, done):
        options = {"batch_size": given.batch_size, "max_new_tokens": given.max_new_tokens}
        # no `ray.data.range`: its tasks would wait for a CPU that no actor takes
        numbers = [{"id": row} for row in range(len(open_data(data)))]
        rows = ray.data.from_items(numbers, override_num_blocks=min(len(numbers), 4 * given.actors))
        lines = rows.map_batches(
            Asker,
            fn_constructor_args=(str(Path(given.checkpoint).resolve()), data, frozenset(done)),
            fn_constructor_kwargs=options,
            batch_size=given.rows,
            num_gpus=given.gpus,
            compute=ray.data.ActorPoolStrategy(size=given.actors),
        )
        for row in lines.iter_rows():
            file.write(row["line"].encode() + b"\n")
            file.flush()


if __name__ == "__main__":
    main()
