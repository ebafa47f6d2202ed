"""HTML and SVG from nested calls, with everything that is not markup escaped.

``tag`` makes an element; the functions after it make the pieces that pages share: paragraphs,
tables, figures, details, meters.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

_VOID_ELEMENTS = frozenset({"img", "meta", "br", "hr", "col", "input", "wbr"})


class Html(str):
    """Text that is markup already; any other string is escaped when it is put into an element."""

    __slots__ = ()


EMPTY = Html("")


def tag(name: str, *content: Any, **attributes: Any) -> Html:
    """Return an element: ``tag("td", "a < b", class_="n")``.

    Args:
        name: The element's name.
        content: Markup, text, numbers and lists of them; ``None`` is omitted.
        attributes: A trailing underscore is dropped and other underscores become hyphens. ``None``
            and ``False`` omit the attribute, ``True`` writes it without a value.

    >>> tag("p", "a < b", tag("b", 1), class_="n", hidden=True)
    '<p class="n" hidden>a &lt; b<b>1</b></p>'
    """
    written = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    start = f"<{name}{written}>"
    return Html(start if name in _VOID_ELEMENTS else f"{start}{join(content)}</{name}>")


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def join(content: Any) -> Html:
    """Concatenate markup: lists are flattened, plain text is escaped."""
    if content is None:
        return EMPTY
    if isinstance(content, Html):
        return content
    if isinstance(content, (list, tuple)):
        return Html("".join(map(join, content)))
    return Html(html.escape(str(content), quote=False))


def format_text(text: str) -> Html:
    """Escape a sentence and set what stands in backquotes as code.

    >>> format_text("`conv1:3` < 0")
    '<code>conv1:3</code> &lt; 0'
    """
    pieces = text.split("`")
    return join([tag("code", piece) if k % 2 else piece for k, piece in enumerate(pieces)])


def image_tag(image: Image.Image, alt: str, **attributes: Any) -> Html:
    """Return an ``<img>`` with the image inside it: photographs as WebP, palette images as PNG."""
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
        alt=alt,
        width=image.width,
        height=image.height,
        decoding="async",
        **attributes,
    )


def themed_image(light: str, dark: str, alt: str, size: tuple[int, int]) -> Html:
    """Return the tags of two image files, of which the page shows the one of its theme."""
    shown = {"alt": alt, "width": size[0], "height": size[1], "loading": "lazy"}
    return join(
        [
            tag("img", src=light, class_="light", **shown),
            tag("img", src=dark, class_="dark", **shown),
        ]
    )


_THUMBNAIL_SIDE = 128  # pixels
_ENLARGED_BELOW = 48  # smaller images are enlarged without smoothing


def thumbnail_tag(image: Image.Image, text: str) -> Html:
    """Return an ``<img>`` of at most 128 pixels, with ``text`` as its alternative and title."""
    small = max(image.size) < _ENLARGED_BELOW
    if not small:
        image = image.copy()
        image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return image_tag(image, text, title=text, class_="pixels" if small else None)


def paragraphs(*texts: str, class_: str | None = None) -> Html:
    """Return each non-empty text as a paragraph."""
    return join([tag("p", format_text(text), class_=class_) for text in texts if text])


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    caption: str,
    *,
    numeric: Iterable[int] = (),
) -> Html:
    """Return a table with a caption, column headers and row headers.

    Args:
        columns: The column headers.
        rows: The cells of each row; the first cell is the row's header. A cell that is a ``<td>``
            already stays as it is.
        caption: What the table holds.
        numeric: Indices of the columns that are aligned to the right.
    """
    right = set(numeric)
    head = tag(
        "tr",
        [
            tag("th", text, scope="col", class_="n" if k in right else None)
            for k, text in enumerate(columns)
        ],
    )
    body = [tag("tr", [_cell(k, cell, k in right) for k, cell in enumerate(row)]) for row in rows]
    element = tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", body),
        class_="figures" if right else None,
    )
    return scrollable(element, caption)


def _cell(column: int, cell: Any, right: bool) -> Html:
    if isinstance(cell, Html) and cell.startswith("<td"):
        return cell
    class_ = "n" if right else None
    if column:
        return tag("td", cell, class_=class_)
    return tag("th", cell, scope="row", class_=class_)


def scrollable(content: Html, label: str) -> Html:
    """Wrap content that may be wider than a phone's screen; reachable with the keyboard."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex="0")


def figure(content: Any, caption: str) -> Html:
    """Return a figure with its caption."""
    return tag("figure", content, tag("figcaption", format_text(caption)))


def details(summary: str, *content: Any) -> Html:
    """Return content folded behind a summary line; unfolded when the page is printed."""
    return tag("details", tag("summary", summary), *content)


def meter(share: float, text: str) -> Html:
    """Return a share of 0 to 1 as a short bar, followed by ``text``."""
    bar = tag("i", style=f"width:{100 * min(max(share, 0), 1):.1f}%")
    return join([tag("span", bar, class_="meter", aria_hidden="true"), text])
