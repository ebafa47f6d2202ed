"""Looking inside a network while it trains: the feature maps of one picture, again and again.

One floor above the capabilities, because it composes one (``maps``) over time. What it draws goes
to writers: small objects with ``write(frame)`` and ``close()``.
"""

from convscope._watch.frame import Frame, Span
from convscope._watch.tensorboard import TensorBoard
from convscope._watch.watcher import Watch, Writer, watch
from convscope._watch.writers import Frames

__all__ = ["Frame", "Frames", "Span", "TensorBoard", "Watch", "Writer", "watch"]
