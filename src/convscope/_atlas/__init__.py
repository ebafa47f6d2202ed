"""The atlas: a folder that ``convscope scan`` writes, and how it is read.

Reading needs numpy, Pillow and safetensors; no framework is loaded and no code of the model's.

    manifest.json          what was scanned with what, and how; see below
    summary.safetensors    the statistics of every channel
    network.safetensors    what a reader needs of the model: receptive fields, similarity of kernels
    listing.safetensors    ids and labels of the images
    thumbnails.sqlite      thumbnails, crops and maps of the exemplars
    pooled/LAYER.npy       with --pooled: float16 (C, N), channel-major, to be memory-mapped
    part-*.safetensors     finished shards, until the scan is complete

**manifest.json**: ``convscope_atlas`` (the format, 1), ``version``; ``model`` (``name``, ``title``,
``fingerprint``, ``preprocess`` in words, ``channels``, ``classes``, ``note``, ``untrained``);
``dataset`` (``name``, ``fingerprint``, ``images``, ``classes``, ``labelled``, ``drawn``);
``settings`` (``layers``, ``top``, ``sample``, ``seed``, ``pooled``, ``by class``, ``size`` (height,
width), ``batch``, ``shard``); ``layers`` (``path``, ``kind``, ``shape``, ``families``,
``field``: ``text``, ``size``, ``stride``, ``known``, ``gated``; ``gate``: the ReLU its values go
through next; ``kernel``: the layer whose filters make its channels); ``made_with`` (versions,
threads); ``state`` (``complete``, ``shards``, ``images`` scanned, ``skipped``);
``skipped`` (``index``, ``id``, ``reason``; the first 10,000).

**summary.safetensors**: arrays named ``NAME/PATH``, for every layer PATH, of C channels:

- ``top.mean.score`` float32 ``(k, C)``, ``.image`` int64 (index into the listing, −1: none),
  ``.position`` int32 (row × map width + column), best first; of equal scores the earlier image
  first; ``top.mean.ties`` int64 ``(C,)``: how many images have the score of the last one listed,
  those listed among them, 0 where a list is not full. The same for ``top.peak``, ``bottom.mean``,
  ``bottom.peak``. An image's mean is the mean of its map, its peak the highest value; ``bottom`` is
  the other end of the same ranking. Positions are those of the map's highest value; of its lowest
  in ``bottom.mean``.
- ``count``, ``nan``, ``active`` int64 ``(C,)``: values that are not NaN, that are, and that are
  above 0; ``sum``, ``square`` float64: Σx, Σx²; ``minimum``, ``maximum`` float32.
- ``mean.count`` int64, ``mean.sum``, ``mean.square`` float64 ``(C,)``: the same of the images'
  means.
- ``histogram`` uint32 ``(C, 229)``: values at 8 positions of each map, in the bins of
  ``atlas.bins``.
- ``class`` int64 ``(K,)``; ``class.sum`` float64, ``class.count`` int32 ``(K, C)``: Σ of the
  images' means for each class, and of how many; only where the data are labeled.
- ``sample.image`` int64 ``(S,)``; ``sample.mean``, ``sample.peak`` float32, ``sample.position``
  int32 ``(S, C)``: the same random images in every layer, in random order.
- ``pooled.scale`` float64 ``()``: with --pooled, what the float16 numbers are multiplied by.

**network.safetensors**: ``field.rows/PATH`` int32 ``(H, 2)``, ``field.columns/PATH`` ``(W, 2)``:
the interval of the seen image that each row (column) of the map looks at, global gates left out;
``kernel.cosine/PATH`` float16 ``(C, C)``: cosines between the flattened kernels that make its
channels; ``kernel.norm/PATH`` float32 ``(C,)``.
"""

from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.layer import LayerAtlas
from convscope._atlas.reading import Atlas, open_atlas
from convscope._atlas.unit import Unit

__all__ = ["Atlas", "Exemplar", "Exemplars", "LayerAtlas", "Unit", "open_atlas"]
