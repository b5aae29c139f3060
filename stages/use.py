"""use: copy the settings of a file in configs/, such as those of the paper, into params.yaml."""

from pathlib import Path
from typing import Annotated

import typer

from seqkd.config import overlay

File = Annotated[Path, typer.Argument(help="The settings to use, such as configs/wmt14-en-de.yaml.")]
Params = Annotated[Path, typer.Option(help="The settings file to change.")]


def main(*, file: File, params: Params = Path("params.yaml")) -> None:
    """Change params.yaml to the settings of a file; comments and all other settings stay."""
    changes = overlay.apply(file, params=params)
    for change in changes:
        before = "(absent)" if change.before is None else change.before
        print(f"{change.key}: {before} -> {'(removed)' if change.after is None else change.after}")
    print(f"{params}: {len(changes)} settings changed" if changes else f"{params} is already so; nothing changed")
