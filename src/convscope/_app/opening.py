"""A network being loaded in a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from convscope._errors import ConvscopeError, UsageError, one_line
from convscope._models import Model

_PATIENCE = 30.0  # seconds


class NotReady(ConvscopeError):
    """The model is still being loaded, or there is none."""


class Opening:
    """A network that ``open`` loads; ``open`` is ``None`` where there is none to load.

    ``then`` is called with the loaded network, before it is given to anybody.
    """

    def __init__(self, open: Callable[[], Model] | None, then: Callable[[Model], None]) -> None:
        self._open, self._then = open, then
        self._model: Model | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self.error = ""

    def start(self) -> None:
        """Begin, where it has not begun; returns at once."""
        if self._done.is_set():
            return
        if self._open is None:
            self._done.set()
        else:
            self._thread = threading.Thread(target=self._load, name="convscope-load", daemon=True)
            self._thread.start()

    def see_off(self) -> None:
        """Wait for what was begun: torch does not bear to be left while it works."""
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def ready(self) -> None:
        """Load it here and now. Raises what ``load`` raises."""
        self._load()
        if self.error:
            raise UsageError(self.error)

    def _load(self) -> None:
        try:
            if self._open is not None:
                model = self._open()
                _ = model.layers  # traced now, not when somebody waits for it
                self._then(model)
                self._model = model
        except BaseException as error:  # the code of a model may raise anything
            self.error = str(error) if isinstance(error, ConvscopeError) else one_line(error)
        finally:
            self._done.set()

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, or ``none``."""
        if self._open is None:
            return "none"
        if not self._done.is_set():
            return "loading"
        return "ready" if self._model else "failed"

    @property
    def model(self) -> Model:
        """The loaded model. Raises ``NotReady``."""
        if self._model is None:
            what = {
                "loading": "The model is still being loaded",
                "failed": f"The model could not be loaded: {self.error}",
            }
            raise NotReady(what.get(self.state, "No model was given. Start it with -m MODEL"))
        return self._model
