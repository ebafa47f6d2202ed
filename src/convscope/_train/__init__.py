"""Training a small network, well enough to look inside it.

The recipe is the plain modern one: SGD with Nesterov momentum, a one-cycle learning rate, label
smoothing, and small shifts and flips of the pictures. The result is a ``.safetensors`` file with a
JSON metadata beside it, which ``cs.load`` reads back.
"""

from convscope._train.confusion import Confusion, evaluate
from convscope._train.descent import augment as _augment  # noqa: F401
from convscope._train.recipe import Epoch, Recipe
from convscope._train.run import Trained, train

__all__ = ["Confusion", "Epoch", "Recipe", "Trained", "evaluate", "train"]
