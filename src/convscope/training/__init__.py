"""Training a small network, well enough to look inside it.

The recipe is the plain modern one: SGD with Nesterov momentum, a one-cycle learning rate, label
smoothing, and small shifts and flips of the pictures. The result is a ``.safetensors`` file with a
JSON card beside it, which ``cs.load`` reads back.
"""

from convscope.training.confusion import Confusion, evaluate
from convscope.training.descent import augment as _augment  # noqa: F401
from convscope.training.recipe import Epoch, Recipe
from convscope.training.run import Trained, train

__all__ = ["Confusion", "Epoch", "Recipe", "Trained", "evaluate", "train"]
