# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Check the page of `fila view IMAGE --html FILE` in a real browser: typing, pointing and clicking show true pixels.

    python docs/check_report.py BROWSER [FOLDER]

BROWSER is a Chromium, for instance Debian's `chromium-headless-shell`. A script that is appended to the page does what
a person would and writes down what the page says; that is compared with what the processor says. With a FOLDER,
screenshots of the light and the dark page are left there.
"""

import html
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from make_pictures import eyes_of, page, save
from PIL import Image

from fila.look.contact_sheet import look_with_all
from fila.look.processed_image import Seen
from fila.look.report import make_report
from fila.processing.canvas_plan import Box
from fila.processing.token_boxes import tokens_in

# A step is ["choose", strategy, token], or ["pointermove" or "click", picture, x, y] in the picture's own units.
STEPS = """<script>
(function () {
  var said = STEPS.map(function (step) {
    if (step[0] === "choose") {
      document.getElementById("strategy").value = step[1];
      document.getElementById("number").value = step[2];
      document.getElementById("number").dispatchEvent(new Event("input"));
    } else {
      document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
      var svg = document.getElementById(step[1]);
      var at = new DOMPoint(step[2], step[3]).matrixTransform(svg.getScreenCTM());
      svg.dispatchEvent(new MouseEvent(step[0], {clientX: at.x, clientY: at.y, bubbles: true}));
    }
    return [document.getElementById("told").textContent, document.querySelectorAll(".mark").length];
  });
  var result = document.createElement("pre");
  result.hidden = true;
  result.id = "said";
  result.textContent = JSON.stringify(said);
  document.body.appendChild(result);
})();
</script>"""
CHOSEN = '[["choose", "llava_next", 1000]]'


def browse(browser: str, path: Path, link: str, *options: str) -> str:
    """Open a page and return the document as the browser then has it."""
    flags = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,1150", *options]
    command = [browser, *flags, f"file://{path}{link}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def pixels(box: Box | None) -> str:
    """A box as the page writes it."""
    return "padding only" if box is None else f"pixels {box.top}, {box.left} to {box.bottom}, {box.right}"


def steps_of(seen: dict[str, Seen]) -> list[tuple[list[Any], str]]:
    """What is done, and how the line that the page then shows must end."""
    steps: list[tuple[list[Any], str]] = []
    for name, one in seen.items():
        for number in (0, one.num_tokens // 3, one.num_tokens - 1, one.num_tokens):
            if number == one.num_tokens:
                expected = "does not exist"
            else:
                place, box = one.shown_by(number)
                expected = "is a newline" if place is None else f"token {number} of {one.num_tokens}; {pixels(box)}"
            steps.append((["choose", name, number], expected))
    one = seen["fila"]
    for event in ("pointermove", "click"):
        # The cell of row 12, column 8 of the second tile, which begins at 336 of the canvas; and row 3, column 22.
        for place, at in (
            ((2, 11, 7), ("fila-canvas", 336 + 7.5 * 14, 11.5 * 14)),
            ((0, 2, 21), ("fila-overview", 21.5 * 14, 2.5 * 14)),
        ):
            number = one.tokens.index(one.starts[place[0]] + place[1] * 24 + place[2])
            steps.append(([event, *at], f"token {number} of {one.num_tokens}; {pixels(one.shown_by(number)[1])}"))
        steps.append(([event, "source", 850.5, 700.5], ""))
    return steps


def check_pixel(line: str, seen: dict[str, Seen]) -> None:
    """Check what the page says of a pixel of the image; pointers go in steps of the screen's pixels."""
    found = re.match(r"Pixel (\d+), (\d+) is shown by so many tokens of the views: (.*)", line)
    assert found is not None, line
    row, col = int(found[1]), int(found[2])
    assert max(abs(row - 700), abs(col - 850)) <= 5, line
    pixel = Box(row, col, row + 1, col + 1)
    counts = {name: len(tokens_in(each.plan, pixel, each.token_grids)) for name, each in seen.items()}
    assert found[3] == ", ".join(f"{name} {count}" for name, count in counts.items()), (line, counts)


def main(browser: str, folder: str | None = None) -> None:
    """Make the page of the generated picture and check it."""
    image, eyes = page(), eyes_of("llava_next")
    compared = look_with_all(eyes, image)
    seen = {each.name: each.seen for each in compared if each.seen is not None}
    steps = steps_of(seen)
    with tempfile.TemporaryDirectory() as temporary:
        plain, driven = Path(temporary) / "report.html", Path(temporary) / "driven.html"
        text = make_report(compared, title="page.png", subtitle=eyes.name)
        plain.write_text(text, "utf-8")
        script = STEPS.replace("STEPS", json.dumps([step for step, _ in steps]))
        driven.write_text(text.replace("</body>", f"{script}</body>"), "utf-8")
        found = re.search(r'<pre[^>]*id="said"[^>]*>(.*?)</pre>', browse(browser, driven, "", "--dump-dom"), re.DOTALL)
        assert found is not None, "the page's script did not run"
        for (step, expected), (line, marks) in zip(steps, json.loads(html.unescape(found[1])), strict=True):
            assert line.endswith(expected), (step, line, expected)
            if step[1] == "source":
                check_pixel(line, seen)
            assert (marks > 0) == ("pixel" in line.lower() or "padding only" in line), (step, line, marks)
        linked = browse(browser, plain, "#minicpm:2700", "--dump-dom")
        assert f"token 2700 of {seen['minicpm'].num_tokens}; {pixels(seen['minicpm'].shown_by(2700)[1])}<" in linked
        sys.stdout.write(f"{len(steps) + 1} readings of the page agree with the processor\n")
        # A picture of a page that has scrolled comes out empty, so the token is not chosen by a link here.
        driven.write_text(text.replace("</body>", STEPS.replace("STEPS", CHOSEN) + "</body>"), "utf-8")
        for name, theme in (("light", "1"), ("dark", "0")) if folder else ():
            target = Path(str(folder)).resolve() / f"report_{name}.png"
            setting = f"--blink-settings=preferredColorScheme={theme}"
            browse(browser, driven, "", setting, f"--screenshot={target}")
            save(Image.open(target), target, 256)


if __name__ == "__main__":
    main(*sys.argv[1:])
