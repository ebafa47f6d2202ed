"""Training a small network, well enough to look inside it.

- ``training``: the public function and its result
- ``trainer``: the recipe, and the optimization: SGD with Nesterov momentum, a one-cycle learning
  rate, label smoothing, small shifts and flips
- ``training_data``, ``training_files``: what is read, and what is written
- ``confusion_matrix``: the test predictions

The result is a ``.safetensors`` file with its metadata beside it as JSON, which ``load`` reads.
"""

from convscope._train.confusion_matrix import ConfusionMatrix
from convscope._train.trainer import EpochResult, Recipe
from convscope._train.training import TrainingResult, train

__all__ = ["ConfusionMatrix", "EpochResult", "Recipe", "TrainingResult", "train"]
