# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Use `fila app` in a headless browser, as a person would, and write its pictures: `make app-check`.

    python tests/browser/check_app.py OUT

Needs the extra `app`, playwright and a Chromium; FILA_CHROMIUM names its program where playwright has none of its own.
It is no test of `make test`, because a browser is not on every machine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "fila" / "assets" / "demo_pages" / "images"
ROWS = [json.loads(line) for line in (PAGES.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines()]
# two questions about the first page, one about the second
RIGHT = [(asked["question"], asked["answer"]) for asked in (*ROWS[0]["fields"][:2], ROWS[1]["fields"][0])]
SECONDS = 120_000  # of patience, in milliseconds: a loaded machine is slow
OTHER_HEAT = "before => ![null, undefined, before].includes(document.querySelector('#heat img')?.getAttribute('src'))"
TOO_WIDE = """[...document.querySelectorAll('*')]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
    .slice(0, 20).map(each => each.tagName + '.' + each.className)"""
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the app on a free port and return the process and its address."""
    command = [sys.executable, "-m", "fila", "app", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def use(page: Page, address: str, folder: Path, out: Path) -> None:
    """Do what a person does, and look."""
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_contain_text("The model that comes with fila", timeout=SECONDS)

    # an example, its question, the answer, the heat-map
    page.locator("button.example").first.click()
    expect(page.locator("#size")).to_contain_text("image tokens", timeout=SECONDS)
    page.locator("#ask").click()
    expect(page.locator("#note")).to_contain_text("probability", timeout=SECONDS)
    expect(page.locator("#answer textarea")).to_have_value(RIGHT[0][1])
    heat = page.locator("#heat img")
    expect(heat).to_be_visible(timeout=SECONDS)
    page.screenshot(path=out / "app-light.png", full_page=True)

    # a second question about the page, sent with Enter
    before = heat.get_attribute("src")
    page.locator("#question textarea, #question input").first.fill(RIGHT[1][0])
    page.keyboard.press("Enter")
    expect(page.locator("#answer textarea")).to_have_value(RIGHT[1][1], timeout=SECONDS)
    page.wait_for_function(OTHER_HEAT, arg=before)
    before = heat.get_attribute("src")
    page.get_by_label("gradient").check()
    page.wait_for_function(OTHER_HEAT, arg=before)

    for name in ("What the towers saw", "Tokens", "Cost"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
    expect(page.locator("#cost table")).to_be_visible(timeout=SECONDS)

    # a file that is no page
    bad = folder / "notes.pdf"
    bad.write_bytes(b"%PDF-1.7\nnothing\n%%EOF\n")
    page.locator("#clear").click()
    page.locator("input[type=file]").first.set_input_files(str(bad))
    message = page.get_by_text("is a damaged PDF")
    expect(message.first).to_be_visible(timeout=SECONDS)
    page.wait_for_timeout(1000)  # it fades in
    assert "Traceback" not in page.content()
    page.screenshot(path=out / "app-error.png")

    # pages of a document
    pdf = folder / "two.pdf"
    pages = [Image.open(path).convert("RGB") for path in sorted(PAGES.glob("*.jpg"))[:2]]
    pages[0].save(pdf, save_all=True, append_images=pages[1:], resolution=200, quality=95)
    page.reload()
    page.locator("input[type=file]").first.set_input_files(str(pdf))
    number = page.get_by_label("Page, 1 to 2")
    expect(number).to_be_visible(timeout=SECONDS)
    number.fill("2")
    question = page.locator("#question textarea, #question input").first
    question.fill(RIGHT[2][0])
    question.press("Enter")
    expect(page.locator("#answer textarea")).to_have_value(RIGHT[2][1], timeout=SECONDS)


def narrow_and_dark(page: Page, address: str, out: Path) -> None:
    """Look at the page on a telephone and in the dark; nothing may stick out."""
    for name, dark, width in (("app-narrow", False, 390), ("app-dark", True, 1280)):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{address}/?__theme={'dark' if dark else 'light'}")
        page.locator("button.example").first.click()
        expect(page.locator("#size")).to_contain_text("image tokens", timeout=SECONDS)
        page.locator("#ask").click()
        expect(page.locator("#heat img")).to_be_visible(timeout=SECONDS)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            sys.stdout.write(str(page.evaluate(TOO_WIDE)) + "\n")
        assert wide <= 0, f"{name}: {wide} pixels stick out on the right"
        page.screenshot(path=out / f"{name}.png", full_page=True)


def main() -> None:
    """Run all of it."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    program = os.environ.get("FILA_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        process, address = start(Path(folder))
        options: dict[str, Any] = {"executable_path": program, "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(SECONDS)
            answered: list[str] = []  # those that the content policy stops get no answer
            page.on("response", lambda response: answered.append(response.url))
            use(page, address, Path(folder), out)
            narrow_and_dark(page, address, out)
            for url in answered:
                assert url.startswith((address, "data:", "blob:")), f"the page got {url}"
        finally:
            browser.close()
            process.terminate()
            process.wait()
    sys.stdout.write(f"all right; pictures in {out}\n")


if __name__ == "__main__":
    main()
