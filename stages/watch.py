"""watch: a page on this machine that shows how the running trainings go."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.reporting import live_page

Live = Annotated[Path, typer.Option(help="The folder of what running trainings tell.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The page's port on this machine; 0: any free one.")]


def main(*, live: Live = Path("reports/live"), port: Port = 8008) -> None:
    """Serve the page to this machine alone until Ctrl-C."""
    with live_page.server(live, port) as server:
        print(
            f"http://{live_page.HERE}:{server.server_port} shows the trainings of {live}; Ctrl-C ends it.", flush=True
        )
        server.serve_forever()
