"""HTML and SVG as nested calls; whatever is not markup already is escaped where it meets it."""

from __future__ import annotations

import base64
import html
from typing import Any

VOID = ("img", "meta", "br")  # HTML that has neither content nor an end


class Html(str):
    """Text that is markup already; every other string is escaped where it meets markup."""


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """``<name attributes>children</name>``, all that is not `Html` escaped.

    ``class_`` is class, ``aria_label`` is aria-label; an attribute that is None is left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Any) -> Html:
    """The children one after the other, all that is not `Html` escaped."""
    return Html("".join(c if isinstance(c, Html) else html.escape(str(c)) for c in children))


def data_uri(kind: str, content: bytes) -> str:
    """The bytes as an address, so that a page needs no second file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
