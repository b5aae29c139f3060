"""The demo's web server, for this machine alone: it listens on 127.0.0.1 and answers only requests that name it.

A page of another site can have its name point to 127.0.0.1 (DNS rebinding), so the Host header is checked; it can also
send forms here, so a question must be JSON, for which a browser would ask us first.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from seqkd.config import records
from seqkd.config.machine import Machine
from seqkd.config.records import Record
from seqkd.demo.answering import Answerer
from seqkd.export import card, pages
from seqkd.utils.errors import InputError

HOST = "127.0.0.1"
NAMES = [HOST, "localhost"]  # what a browser may call us
MAX_CHARACTERS = 1000  # of a question
MAX_BYTES = 16 * MAX_CHARACTERS  # of a request: JSON may write a character in up to 12 bytes
MAX_MODELS = 12
HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
QUIET: dict[str, Any] = {"log_level": "critical", "lifespan": "off", "ws": "none", "server_header": False}


class Question(Record):
    """What the page may send."""

    model: Annotated[int, Field(ge=0)]  # its place on the page
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]
    beam: Literal[1, 5]


def serve(
    folders: Sequence[Path], machine: Machine, *, port: int, examples: Sequence[str], ready: Callable[[str], object]
) -> None:
    """Serve the demo until a signal ends it; ready is called with the page's address when it can be opened.

    port: 0 is any free one. Raises InputError where the port is taken, or for too many models.
    """
    if len(folders) > MAX_MODELS:
        raise InputError(f"{len(folders)} models are too many to show side by side; name {MAX_MODELS} at most.")
    with _listen(port) as listener, Answerer.start_all(folders, machine) as answerers:
        app = make_app(answerers, languages=card.read(folders[0]).languages, examples=examples)
        ready(f"http://{HOST}:{listener.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(app, **QUIET)).run(sockets=[listener])


def make_app(answerers: Sequence[Answerer], *, languages: Sequence[str], examples: Sequence[str]) -> Starlette:
    """Return the application: the page, and the answer of one model to one text."""
    html = _page(answerers, languages, examples)

    async def page(_: Request) -> Response:
        return HTMLResponse(html, headers=HEADERS)

    async def translate(request: Request) -> Response:
        try:
            question = _question(await _body(request), request.headers.get("content-type", ""))
            if question.model >= len(answerers):
                raise InputError("model: there are not so many.")
            answerer = answerers[question.model]
            timed = await asyncio.wrap_future(answerer.ask(question.text, beam=question.beam))
        except InputError as error:
            return JSONResponse({"error": str(error)}, status_code=400, headers=HEADERS)
        except asyncio.CancelledError:  # a newer question came first
            return JSONResponse({"error": "A newer text came first."}, status_code=409, headers=HEADERS)
        except BrokenExecutor:
            return JSONResponse({"error": "This model's process has ended; start the demo anew."}, 500, headers=HEADERS)
        return JSONResponse(answerer.answer(timed, question.text)._asdict(), headers=HEADERS)

    routes = [Route("/", page), Route("/translate", translate, methods=["POST"])]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=NAMES, www_redirect=False)
    return Starlette(routes=routes, middleware=[trusted])


def _page(answerers: Sequence[Answerer], languages: Sequence[str], examples: Sequence[str]) -> str:
    """Return the page with the models' names and sizes."""
    elements = pages.read("seqkd.export", "browser/elements.js")
    style = pages.read("seqkd.export", "browser/page.css") + pages.read("seqkd.demo", "page.css")
    models = [{"name": each.name, "parameters": each.parameters, "bytes": each.bytes} for each in answerers]
    values = {"models": models, "languages": languages, "examples": examples, "maxCharacters": MAX_CHARACTERS}
    parts = {"style": style, "page": elements + pages.read("seqkd.demo", "page.js")}
    return pages.render(pages.read("seqkd.demo", "page.html"), parts=parts, values=values)


async def _body(request: Request) -> bytes:
    """Return what was sent. Raises InputError for more than the longest question, without reading on."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise InputError(f"the request is too long; at most {MAX_CHARACTERS} characters can be translated.")
    return body


def _question(body: bytes, content_type: str) -> Question:
    """Return the question that was sent. Raises InputError for anything else."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InputError("a question is sent as application/json.")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("the request is not JSON.") from None
    return records.parse(Question, values, where="the request")


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise InputError(f"port {port}: {reason}; choose another one with --port, or 0 for any that is free.") from None
