# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The page of `fila app`: ask a checkpoint about images and documents in the browser, and see what it saw.

`Desk` does the work and knows nothing of the browser; `make_page` lays it out with Gradio. The server listens on this
machine alone, sends nothing elsewhere, and tells the browser to load nothing from elsewhere.
"""

import functools
import html
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import TextIteratorStreamer

from fila.look.estimate import Estimator, as_rows
from fila.look.explain import METHODS, explain
from fila.look.processed_image import Seen, look
from fila.look.view import draw_view
from fila.look.view_settings import Eyes
from fila.modeling.modeling_fila import FilaForConditionalGeneration
from fila.processing.canvas_plan import Size
from fila.processing.image_document import count_pages, open_page, page_names
from fila.processing.image_input import ImageInputError
from fila.processing.processing_fila import FilaProcessor
from fila.training.answering import Answerer, Generated
from fila.training.data import Question

MAX_UPLOAD = "50mb"
# The browser loads nothing that does not come from this server; Gradio's page asks for a script of another host.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:"
)
STYLE = """
.gradio-container { max-width: min(1280px, 100vw) !important; min-width: 0 !important; margin: auto; }
.example { white-space: normal; }
.drawn img { padding-top: 34px; }
footer { display: none !important; }
#note p, #cost td, #cost th { font-size: 0.95rem; }
#cost { overflow-x: auto; }
"""


class NobodyReadsError(Exception):
    """The answer that is being generated is not read any more."""


class Streamer(TextIteratorStreamer):
    """Streamer that ends the generation once nobody reads it.

    Attributes:
        is_read: Whether somebody still reads.
    """

    is_read = True

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, and then token after token."""
        if not self.is_read:
            raise NobodyReadsError
        super().put(value)


class Desk:
    """A model, the page on the desk, and everything that is asked of them.

    Args:
        model: The model, in eval mode.
        processor: Its processor.
        name: What the page calls the checkpoint.
        max_new_tokens: Longest answer.
    """

    def __init__(
        self, model: FilaForConditionalGeneration, processor: FilaProcessor, name: str, *, max_new_tokens: int = 256
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.answerer = Answerer(model, processor, max_new_tokens, stop_repetition=True, confidence=True)
        parts = model.model.vision_tower.fusion, model.model.multi_modal_projector
        self.eyes = Eyes.of(model.config, processor, name, parts)
        self._seen: tuple[str, Seen] | None = None
        self._model_lock = threading.Lock()  # a reader who leaves may leave a thread behind that still answers

    def count(self, file: str) -> int:
        """Return the number of pages of a file; of an image 1.

        Raises:
            ImageInputError: If the file cannot be read.
        """
        return count_pages(file)

    def source(self, file: str, number: int) -> str:
        """Return the name of a page, such as `report.pdf#page=3`; of an image, its path.

        Raises:
            ImageInputError: If there is no such page.
        """
        names = list(page_names(file))
        if not 1 <= number <= len(names):
            raise ImageInputError(None, 0, f"has no page {number}; it has {len(names)}", "Pages count from 1.")
        return names[number - 1]

    def picture(self, source: str) -> Image.Image:
        """Return a page as the processor opens it."""
        page: Image.Image = open_page(source, self.processor)
        return page

    def seen(self, source: str) -> Seen:
        """Return what the towers see of a page; the last one is kept."""
        if self._seen is None or self._seen[0] != source:
            self._seen = source, look(self.eyes, self.picture(source))
        return self._seen[1]

    def ask(self, source: str, question: str) -> Iterator[str | Generated]:
        """Yield the answer as far as it is known, and at the end all of it with its confidence.

        Raises:
            ValueError: If the question is empty.
        """
        if not question.strip():
            raise ValueError("Write a question first.")
        streamer = Streamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        found: list[Generated | Exception] = []
        content = [{"type": "image"}, {"type": "text", "text": question.strip()}]
        asked = Question([source], [{"role": "user", "content": content}], "")

        def run() -> None:
            try:
                with self._model_lock:
                    found.extend(self.answerer([asked], streamer=streamer))
            except Exception as error:  # raised again where the answer is read
                found.append(error)
                streamer.end()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        text = ""
        try:
            for piece in streamer:
                text += piece
                yield text
        finally:
            streamer.is_read = False
            thread.join()
        if isinstance(found[0], Exception):
            raise found[0]
        yield found[0]

    def towers(self, source: str) -> Image.Image:
        """Draw canvas, overview and high-res canvas, as `fila view` does."""
        return draw_view(self.seen(source), title=Path(source).name, subtitle=self.name)

    def token(self, source: str, number: int) -> tuple[Image.Image, str]:
        """Draw where an image token lies, and say what it shows."""
        seen = self.seen(source)
        number = max(0, min(number, seen.num_tokens - 1))
        told = f"{seen.num_tokens:,} image tokens, numbered from 0 in the order of the prompt. {seen.tell(number)}"
        return draw_view(seen, title=Path(source).name, subtitle=self.name, tokens=[number]), told

    def heat(self, source: str, question: str, answer: str, method: str) -> Image.Image:
        """Draw where an answer comes from, as `fila explain` does."""
        with self._model_lock:
            found = explain(self.model, self.processor, source, question.strip(), answer=answer, method=method)
        return found.picture(Path(source).name)

    def cost(self, source: str) -> list[list[str]]:
        """Return a table of the cost of a page under every canvas strategy, as `fila estimate` prints it."""
        page = self.picture(source)
        estimator = Estimator.of(self.model.config, self.processor)
        return as_rows(estimator.all_canvases(Path(source).name, Size(page.height, page.width)))


def table(rows: list[list[str]]) -> str:
    """Return rows, the first of which are headings, as a table of Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def make_page(desk: Desk, examples: list[tuple[str, str]]) -> Any:
    """Lay the page out.

    Args:
        desk: What answers.
        examples: Files and questions to try.

    Returns:
        Gradio's `Blocks`.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which would call home
    import gradio as gr

    @contextmanager
    def warned(file: str | None) -> Iterator[None]:
        """Show the library's errors, which say what to do, without the folder of uploads; go on behind the block."""
        try:
            if not file:
                raise ValueError("Choose a page first: an image, a PDF or a TIFF file.")
            yield
        except (ValueError, OSError, RuntimeError) as error:  # the last: a GPU without enough memory
            message = str(error).replace(f"{Path(file or '').parent}{os.sep}", "")
            gr.Warning(html.escape(message), duration=None, title="This did not work")

    def opened(file: str | None) -> Any:
        hidden = gr.update(value=1, visible=False)
        if file:
            with warned(file):
                count = desk.count(file)
                number = gr.update(value=1, maximum=count, visible=count > 1, label=f"Page, 1 to {count}")
                return number, *shown(file, 1)
        return hidden, *(None,) * 10

    def shown(file: str | None, number: float | None) -> Any:
        with warned(file):
            source = desk.source(str(file), int(number or 1))
            page, (strip, note) = desk.picture(source), desk.token(source, 0)
            size = f"{page.height} x {page.width} pixels, {desk.seen(source).num_tokens:,} image tokens"
            return page, None, "", size, "", desk.towers(source), strip, note, 0, None
        return (None,) * 10

    def answered(file: str | None, number: float | None, question: str) -> Iterator[Any]:
        began = time.perf_counter()
        yield "", "reading the page ...", None
        with warned(file):
            source = desk.source(str(file), int(number or 1))
            for step in desk.ask(source, question):
                if isinstance(step, str):
                    yield step, "writing ...", None
                    continue
                note = f"{step.tokens} tokens in {time.perf_counter() - began:.1f} s; probability of the whole answer "
                note += f"{step.confidence:.1%}" + (f"; it was {step.cut.notice()}" if step.cut else "")
                yield step.text, note, (source, question, step.text)
            return
        yield "", "", None

    def heated(last: tuple[str, str, str] | None, method: str) -> Any:
        if last is not None and last[2]:
            with warned(last[0]):
                return desk.heat(*last, method)
        return None

    def marked(file: str | None, number: float | None, token: float | None) -> Any:
        with warned(file):
            return desk.token(desk.source(str(file), int(number or 1)), int(token or 0))
        return None, ""

    def costed(file: str | None, number: float | None) -> str:
        if file:
            with suppress(ValueError, OSError):  # the page itself was warned of
                return table(desk.cost(desk.source(file, int(number or 1))))
        return "Choose a page."

    def picture(label: str, **options: Any) -> Any:
        return gr.Image(
            label=label,
            show_label=False,
            interactive=False,
            type="pil",
            buttons=["download", "fullscreen"],
            elem_classes="drawn",
            **options,
        )

    with gr.Blocks(title=f"fila: {desk.name}", analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {desk.name}\nAsk about a page. Everything stays on this machine.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                file = gr.File(label="Page: an image, a PDF or a TIFF file", type="filepath", height=160)
                number = gr.Number(1, label="Page", precision=0, minimum=1, visible=False)
                page = gr.Image(label="The page", interactive=False, type="pil", height=360, buttons=["fullscreen"])
                size = gr.Markdown("", elem_id="size")
            with gr.Column(scale=3, min_width=300):
                question = gr.Textbox(label="Question", placeholder="What is the Total?", lines=1, elem_id="question")
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", elem_id="ask")
                    clear = gr.Button("Clear", elem_id="clear")
                answer = gr.Textbox(label="Answer", lines=3, max_lines=20, interactive=False, elem_id="answer")
                note = gr.Markdown("", elem_id="note")
                with gr.Row():
                    tries = [gr.Button(asked, size="sm", elem_classes="example") for _, asked in examples]
        with gr.Tabs():
            with gr.Tab("Where it looked"):
                method = gr.Radio(list(METHODS), value=METHODS[0], label="Heat-map by", elem_id="method")
                heat = picture("Heat-map of the last answer", elem_id="heat")
            with gr.Tab("What the towers saw"):
                towers = picture("Canvas, overview, high-res canvas")
            with gr.Tab("Tokens"):
                token = gr.Number(0, label="Image token to mark", precision=0, minimum=0)
                tells = gr.Markdown("")
                strip = picture("The token and what it shows")
            with gr.Tab("Cost"):
                cost = gr.Markdown("Choose a page.", elem_id="cost")
        at, last = [file, number], gr.State(None)  # source, question and answer of the heat-map
        of_page = [page, heat, answer, size, note, towers, strip, tells, token, last]
        options: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
        file.change(opened, [file], [number, *of_page], **options).then(costed, at, [cost])
        number.input(shown, at, of_page, **options).then(costed, at, [cost])
        token.input(marked, [*at, token], [strip, tells], **options)
        method.change(heated, [last, method], [heat], **options)
        running = [
            event(answered, [*at, question], [answer, note, last], **options) for event in (ask.click, question.submit)
        ]
        for event in running:
            event.success(heated, [last, method], [heat], **options)
        clear.click(lambda: (None, ""), None, [file, question], cancels=running)
        for button, example in zip(tries, examples, strict=True):
            button.click(functools.partial(list, example), None, [file, question])
    return blocks


def make_server(blocks: Any, host: str, port: int, folder: Path) -> Any:
    """Return a web application that serves the page and lets the browser load nothing from elsewhere.

    Args:
        blocks: The page, of `make_page`.
        host: Address that it listens on.
        port: Port.
        folder: Of the examples.
    """
    import fastapi
    import gradio as gr

    server = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.middleware("http")
    async def stay_here(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_POLICY
        return response

    blocks.queue(default_concurrency_limit=1, api_open=False)
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.mount_gradio_app(
        server,
        blocks,
        path="/",
        server_name=host,
        server_port=port,
        footer_links=[],
        allowed_paths=[str(folder)],
        max_file_size=MAX_UPLOAD,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Default(**fonts),
        css=STYLE,
    )
