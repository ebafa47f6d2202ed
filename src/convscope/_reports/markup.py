"""HTML and SVG from nested calls: what is not markup already is escaped."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

from PIL import Image

_VOID = frozenset({"img", "meta", "br", "hr", "col", "input", "wbr"})


class Html(str):
    """Text that is markup; any other string is escaped on its way into one."""

    __slots__ = ()


def tag(name: str, *content: Any, **attributes: Any) -> Html:
    """An element: ``tag("td", "a < b", class_="n")``.

    An attribute's trailing underscore is dropped and other underscores become hyphens; ``None`` and
    ``False`` leave it out, ``True`` leaves it without a value. ``None`` among the content is empty.

    >>> tag("p", "a < b", tag("b", 1), class_="n", hidden=True)
    '<p class="n" hidden>a &lt; b<b>1</b></p>'
    """
    named = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    inside = join(content)
    return Html(f"<{name}{named}>" if name in _VOID else f"<{name}{named}>{inside}</{name}>")


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def join(parts: Any) -> Html:
    """Markup side by side; lists are flattened, plain text is escaped."""
    if parts is None:
        return Html("")
    if isinstance(parts, Html):
        return parts
    if isinstance(parts, (list, tuple)):
        return Html("".join(map(join, parts)))
    return Html(html.escape(str(parts), quote=False))


def rich(text: str) -> Html:
    """A sentence whose `` `code` `` is set as code; the rest is escaped.

    >>> rich("`conv1:3` < 0")
    '<code>conv1:3</code> &lt; 0'
    """
    parts = text.split("`")
    return join([tag("code", part) if at % 2 else part for at, part in enumerate(parts)])


def picture(image: Image.Image, alternative: str, **attributes: Any) -> Html:
    """A picture inside the page: photographs as WebP, palette pictures as PNG."""
    stream = io.BytesIO()
    kind = "png" if image.mode in ("P", "1", "L") else "webp"
    if kind == "png":
        image.save(stream, "png")
    else:
        image.convert("RGB").save(stream, "webp", quality=84, method=4)
    data = base64.b64encode(stream.getvalue()).decode()
    return tag(
        "img",
        src=f"data:image/{kind};base64,{data}",
        alt=alternative,
        width=image.width,
        height=image.height,
        decoding="async",
        **attributes,
    )
