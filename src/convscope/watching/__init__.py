"""Looking inside a network while it trains: the feature maps of one picture, again and again.

One floor above the capabilities, because it composes one (``maps``) over time. What it draws goes
to writers: small objects with ``write(frame)`` and ``close()``.
"""

from convscope.watching.frame import Frame, Span
from convscope.watching.tensorboard import TensorBoard
from convscope.watching.watcher import Watch, Writer, watch
from convscope.watching.writers import Frames

__all__ = ["Frame", "Frames", "Span", "TensorBoard", "Watch", "Writer", "watch"]
