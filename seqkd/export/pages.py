"""HTML pages of one file: style and scripts inside, what comes from a model as JSON that is never executed.

A page's content security policy names the hashes of its style and its scripts, so nothing else can run.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources


def read(package: str, name: str) -> str:
    """Return a text that stands beside a package's modules."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def render(template: str, *, parts: Mapping[str, str], values: Mapping[str, object]) -> str:
    """Return the page: {{name}} becomes that part, {{name_hash}} its hash in the policy, {{model}} the values."""
    hashes = {f"{name}_hash": f"sha256-{_sha256(text)}" for name, text in parts.items()}
    data = json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")  # no text can end the block
    texts = {**parts, **hashes, "model": data}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: texts[match[1]], template)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
