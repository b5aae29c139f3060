"""A page on this machine that shows running trainings and renews itself."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

from seqkd.training import live
from seqkd.utils.errors import InputError

HERE = "127.0.0.1"  # reached from this machine alone
FILES = {
    "/": ("watch.html", "text/html"),
    "/watch.js": ("watch.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
MAX_POINTS = 400  # of a curve
T = TypeVar("T")


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of the page for the trainings in folder; port 0: any free one. Raises InputError for no port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of another host that this name was made to lead to must not read what is here.
            if (self.headers.get("Host") or "").rpartition(":")[0] not in (HERE, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
            elif self.path in FILES:
                name, kind = FILES[self.path]
                self._answer((Path(__file__).resolve().parent / "page" / name).read_bytes(), kind)
            elif self.path == "/live.json":
                self._answer(json.dumps(state(folder)).encode(), "application/json")
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, content: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Security-Policy", "default-src 'self'; img-src data:")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    try:
        return ThreadingHTTPServer((HERE, port), Handler)
    except (OSError, OverflowError):
        raise InputError(f"port {port} is taken or closed to you; name another one with --port.") from None


def state(folder: Path) -> list[dict[str, object]]:
    """Return every training in the folder, the one that told something last first: name, time and metrics."""
    trainings = []
    for summary in folder.glob(f"*/{live.SUMMARY}"):
        series = {name: _thinned(points) for name, points in live.read(summary.parent).items()}
        trainings.append({"name": summary.parent.name, "time": summary.stat().st_mtime, "metrics": series})
    return sorted(trainings, key=lambda training: -float(str(training["time"])))


def _thinned(points: Sequence[T]) -> list[T]:
    """Return at most MAX_POINTS of the points, the last one among them."""
    stride = -(-len(points) // MAX_POINTS)
    return list(points[::-1][:: max(1, stride)])[::-1]
