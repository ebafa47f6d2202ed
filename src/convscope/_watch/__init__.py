"""Watching a training: the feature maps of one image, recorded while the network learns.

- ``watcher``: ``watch``, and its callbacks for Keras and Lightning
- ``frames``: the maps of one layer at one step, and how they are drawn
- ``writers``: where frames go: a folder with an animation, or TensorBoard

One floor above the capabilities, because it composes feature maps over time.
"""

from convscope._watch.frames import FrameStyle, ValueRange, WatchFrame
from convscope._watch.watcher import Watch, watch
from convscope._watch.writers import Frames, FrameWriter, TensorBoard

__all__ = [
    "FrameStyle",
    "FrameWriter",
    "Frames",
    "TensorBoard",
    "ValueRange",
    "Watch",
    "WatchFrame",
    "watch",
]
