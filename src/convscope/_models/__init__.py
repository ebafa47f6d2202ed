"""Loading networks and looking into them; the only room that knows PyTorch's and Keras's insides.

- ``load``: names, files and networks to a ``Model``, with ``sources`` (modules, factories, trained
  files), ``torch_zoos``, ``keras_files`` and ``keras_preprocessing``, ``wrappers``,
  ``architectures``; ``weights``: files of weights, with ``readings`` and ``pickles``.
- ``model``: ``Model``, what other rooms use; ``inputs``: its ``Input``, batches, preparation, with
  ``input_search``; ``input_summary``: the notes for figures of one image; ``predictions``.
- ``backend``: the seam to the frameworks. ``hook_backend`` with ``torch_modules`` or
  ``keras_layers``; ``bridge_backend`` over ``bridge`` for TensorFlow and JAX.
- ``hooks``, ``recording``, ``layer_table``: observing a pass, and what is done with its results.
- ``replica``, ``checkpointing``, ``structure``: what of a network is run, and what it returns.
- ``self_check``: what is shown, compared once with plain hooks on an untouched copy.
- ``layouts``: from any layout of a result to ``N C H W``.
- ``layer_roles``: which ReLU follows a layer, which kernel makes its channels, which gives logits.
- ``tracing``: which images, which part of them and which place each result comes from, for any
  graph.
"""

from convscope._models.backend import Edit
from convscope._models.input_summary import InputSummary, summarize_input
from convscope._models.inputs import UNKNOWN_PREPROCESS, Batch, Input, stack_slices
from convscope._models.load import load
from convscope._models.model import Model, ModelLike
from convscope._models.predictions import Prediction, probabilities
from convscope._models.tracing import ReceptiveField

__all__ = [
    "UNKNOWN_PREPROCESS",
    "Batch",
    "Edit",
    "Input",
    "InputSummary",
    "Model",
    "ModelLike",
    "Prediction",
    "ReceptiveField",
    "load",
    "probabilities",
    "stack_slices",
    "summarize_input",
]
