"""try: the first three minutes: a teacher and a student trained before your eyes, then the demo of both."""

import tempfile
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.demo import server, tryout

Folder = Annotated[Path | None, typer.Option(help="A new folder that keeps all of it.", show_default="a temporary one")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Where the demo listens on 127.0.0.1; 0: any free port.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the demo in the browser.")]


def main(*, folder: Folder = None, port: Port = 0, open_page: Open = True) -> None:
    """Train a teacher and a student on sentences of a small grammar; nothing is downloaded."""
    machine = load.machine()
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seqkd-try-")), "try")
        tried = tryout.run_all(place.absolute(), machine)
        kept = f"Everything is in {folder}." if folder else "Then all of it is deleted; --folder would keep it."

        def ready(address: str) -> None:
            print(f"\nType a sentence of your own at {address} (Ctrl-C ends it). {kept}", flush=True)
            if open_page:
                webbrowser.open(address)

        machine = machine.model_copy(update={"device": "cpu", "processes": 1})
        server.serve(tried.models, machine, port=port, examples=tried.examples, ready=ready)
