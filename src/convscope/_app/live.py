"""``cs.show(…, live=True)``: a page that gives way to a server where the browser reaches one."""

from __future__ import annotations

import html
import itertools
import json
import threading
from collections.abc import Iterable
from typing import Any

from convscope._app.microscope import FRAME, Microscope
from convscope._app.running import Running
from convscope._app.slides import given
from convscope._models import Model

_NUMBERS = itertools.count(1)

# Whether the address can be reached is for the browser to find out: a notebook's kernel may be on
# another machine. The server refuses what other pages ask it, but an answer that may not be read
# is an answer; where nobody listens, ``fetch`` fails.
_PROBE = """<script>
fetch({address} + "api/model", {{mode: "no-cors"}}).then(function () {{
  var frame = document.getElementById({id});
  frame.removeAttribute("srcdoc");
  frame.src = {address};
}}, function () {{}});
</script>"""


class Live:
    """A page, and a server beside it: ``page``, ``address``, ``close()``; draws in a notebook."""

    def __init__(self, page: Microscope, running: Running) -> None:
        self.page, self._running = page, running

    @classmethod
    def beside(
        cls, page: Microscope, model: Model, images: Iterable[Any], size: Any, atlas: Any
    ) -> Live:
        """Start the server, and show it the pictures of the page."""
        from convscope._app.server import start

        running = start(model, atlas=atlas)
        for image in images:
            running.session.show(given(image), size)
        return cls(page, running)

    @property
    def address(self) -> str:
        return self._running.address

    def save(self, path: Any) -> Any:
        """Write the page, which needs no server."""
        return self.page.save(path)

    def close(self) -> None:
        """End the server; the page stays."""
        self._running.close()

    def _repr_html_(self) -> str:
        name = f"convscope-live-{next(_NUMBERS)}-{threading.get_ident()}"
        frame = (
            f'<iframe id="{name}" srcdoc="{html.escape(self.page.html, quote=True)}" '
            f'title="{html.escape(self.page.title, quote=True)}" style="{FRAME}"></iframe>'
        )
        return frame + _PROBE.format(address=json.dumps(self.address), id=json.dumps(name))

    def __repr__(self) -> str:
        return f"Live({self.address}; {self.page.sentence()})"
