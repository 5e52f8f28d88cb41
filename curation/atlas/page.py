"""The page around the data: one file, no network, no script but its own."""

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

SCRIPTS = ("parts.js", "browser.js", "page.js")  # joined in one function, in this order


def render(title: str, data: Any) -> str:
    """The whole HTML file. The data are JSON in a script element; the page builds text nodes of them, never markup."""
    style = _read("page.css")
    script = "\n".join(["(() => {", '"use strict";', *map(_read, SCRIPTS), "})();"])
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _read("page.html")
    # The data come last: nothing in them is taken for a placeholder.
    for name, text in (
        ("POLICY", html.escape(policy)),
        ("STYLE", style),
        ("SCRIPT", script),
        ("TITLE", html.escape(_writable(title))),
    ):
        page = page.replace(f"@@{name}@@", text, 1)
    before, after = page.split("@@DATA@@")
    return before + embed_json(data) + after


def embed_json(data: Any) -> str:
    """JSON that can stand in a script element: no ``<``, ``>`` or ``&``, and nothing that UTF-8 cannot write.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _writable(text)


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
