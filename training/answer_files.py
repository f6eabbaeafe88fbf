# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Files of answers that an interrupted run goes on with: JSON lines, and Markdown.

In Markdown a record is a comment of one line, which no reader shows, with everything but the answer and the number of
bytes of what comes after it; then a heading, the answer, and an empty line. An answer may hold any text.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

Line = dict[str, Any]
_END = b"\n\n"


class AnswerForm(Protocol):
    """How lines are written, and found again."""

    def written(self, line: Line) -> bytes:
        """Return the bytes of a line."""
        ...

    def read(self, file: BinaryIO) -> Iterator[tuple[Line, int]]:
        """Yield each whole line, with the place of its end; a torn last one is left out.

        Raises:
            ValueError: If there is anything else, with the number of the line.
        """
        ...


class JsonLines:
    """One JSON object per line."""

    start = b'{"id": '  # of every line

    def written(self, line: Line) -> bytes:
        """Return the bytes of a line."""
        return (json.dumps(line, ensure_ascii=False) + "\n").encode()

    def read(self, file: BinaryIO) -> Iterator[tuple[Line, int]]:
        """Yield each whole line, with the place of its end."""
        end = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                if line[: len(self.start)] != self.start[: len(line)]:
                    raise ValueError(f"Line {number} is no answer of an earlier run: it does not begin as a line does")
                return
            try:
                found = json.loads(line)
                found["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"Line {number} is no answer of an earlier run ({error})") from error
            end += len(line)
            yield found, end


class Markdown:
    """A comment, a heading and the answer."""

    start = b'<!-- {"id": '

    def written(self, line: Line) -> bytes:
        """Return the bytes of a record."""
        rest = {name: value for name, value in line.items() if name not in ("answer", "error")}
        text = f"*{line['error']}*" if "error" in line else line["answer"]
        if "cut" in line:
            text += f"\n\n*({line['cut']['unit'].strip()[:60]!r} was repeated {line['cut']['times']} times, and cut.)*"
        if line.get("not_sure"):
            text = f"*not sure* (confidence {line['confidence']})\n\n{text}"
        body = f"## {line['id']}\n\n{text}".encode() + _END
        told = json.dumps({**rest, "bytes": len(body)}, ensure_ascii=False).replace(">", "\\u003e")
        return f"<!-- {told} -->\n".encode() + body

    def read(self, file: BinaryIO) -> Iterator[tuple[Line, int]]:
        """Yield each whole record without its answer, with the place of its end."""
        end = number = 0
        while head := file.readline():
            number += 1
            torn = not head.endswith(b"\n")
            if head[: len(self.start)] != self.start[: len(head)]:
                raise ValueError(f"Record {number} is no answer of an earlier run: it does not begin as one does")
            if torn:
                return
            try:
                found = json.loads(head[len("<!-- ") : -len(" -->\n")])
                count = int(found["bytes"])
                found["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"Record {number} is no answer of an earlier run ({error})") from error
            body = file.read(max(0, min(count, 2**28)))
            if len(body) < count:
                return
            if not body.endswith(_END):
                raise ValueError(f"Record {number} is no answer of an earlier run: its text was changed")
            end += len(head) + count
            yield found, end


JSON_LINES, MARKDOWN = JsonLines(), Markdown()


@contextmanager
def open_answers(output: Path, form: AnswerForm = JSON_LINES) -> Iterator[tuple[BinaryIO, dict[str, str | None]]]:
    """Open a file of answers to append to, and yield it with the questions that it holds, by id.

    A torn last line, as a killed process leaves, is cut off.

    Raises:
        ValueError: If the file holds something else.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab+") as file:
        file.seek(0)
        done: dict[str, str | None] = {}
        whole = 0
        try:
            for line, end in form.read(file):
                done[line["id"]] = line.get("question")
                whole = end
        except ValueError as error:
            place, _, told = str(error).partition(" is no answer")
            raise ValueError(f"{place} of {output} is no answer{told}; name another output.") from error
        file.truncate(whole)
        file.seek(0, os.SEEK_END)
        yield file, done
