"""demo: models side by side on a page of this machine; type a text and each answers it."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import load
from seqkd.demo import server
from seqkd.models import checkpoint
from seqkd.utils.errors import InputError

Models = Annotated[list[Path] | None, typer.Argument(help="Models' folders.", show_default="those in models/")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Where to listen on 127.0.0.1; 0: any free port.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
FOLDER = Path("models")


def main(models: Models = None, *, port: Port = 8000, open_page: Open = False) -> None:
    """Serve a page where models answer side by side, with time and score, until Ctrl-C."""
    folders = models or sorted(
        (path.parent for path in FOLDER.glob(f"*/{checkpoint.SHAPE}")),
        key=lambda folder: (-checkpoint.weights_size(folder), folder.name),
    )
    if not folders:
        raise InputError(f"{FOLDER}: no model in it; name the folders of models, or make some with dvc repro.")
    machine = load.machine().model_copy(update={"device": "cpu", "processes": 1})

    def ready(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if open_page:
            webbrowser.open(address)

    server.serve(folders, machine, port=port, examples=[], ready=ready)
