"""The atlas: the folder that ``convscope scan`` writes, and its reader.

Reading needs numpy, Pillow and safetensors; it loads no framework and runs no code of the model's.

    files            names of the files; safe writing
    histogram_bins   the bins of all histograms
    thumbnails       thumbnails, crops and feature maps of the exemplars
    reader           manifest, image ids, and arrays over the channels of a layer
    exemplars        ranked lists of images
    exemplar_figure  the figure of such a list
    unit             one channel
    atlas            opening an atlas; its layers and units

The folder holds:

    manifest.json          what was scanned and how
    summary.safetensors    the statistics of every channel
    network.safetensors    receptive fields, and the similarity of kernels
    listing.safetensors    ids and labels of the images
    thumbnails.sqlite      thumbnails, crops and feature maps of the exemplars
    pooled/LAYER.npy       with --pooled: float16 (C, N), channel-major, to be memory-mapped
    part-*.safetensors     finished shards, until the scan is complete

**manifest.json**:

- ``convscope_atlas``: the version of the format, 1; ``version``: that of convscope
- ``model``: ``name``, ``title``, ``fingerprint``, ``preprocess`` (in words), ``channels``,
  ``classes``, ``note``, ``untrained``
- ``dataset``: ``name``, ``fingerprint``, ``images``, ``classes``, ``labelled``, ``drawn``
- ``settings``: ``layers``, ``top``, ``sample``, ``seed``, ``pooled``, ``by class``, ``size``
  (height, width), ``batch``, ``shard``
- ``layers``, each: ``path``, ``kind``, ``shape``, ``families``; ``field``: ``text``, ``size``,
  ``stride``, ``known``, ``gated``; ``gate``: the ReLU that its values go through next; ``kernel``:
  the layer whose filters compute its channels
- ``made_with``: versions, threads
- ``state``: ``complete``, ``shards``, ``done``, ``images`` (scanned), ``skipped``
- ``skipped``, each: ``index``, ``id``, ``reason``; the first 10,000

**summary.safetensors**: arrays named ``NAME/PATH``, for every layer PATH, of C channels:

- ``top.mean.score`` float32 ``(k, C)``, ``top.mean.image`` int64 (index into the listing, −1:
  none), ``top.mean.position`` int32 (row × map width + column), highest first; of equal scores the
  earlier image first. ``top.mean.ties`` int64 ``(C,)``: the number of images whose score equals
  that of the last one listed, those listed included; 0 where a list is not full. The same for
  ``top.peak``, ``bottom.mean``, ``bottom.peak``. An image's mean is the mean of its feature map,
  its peak the highest value; ``bottom`` is the other end of the same ranking. Positions are those
  of the map's highest value; in ``bottom.mean``, of its lowest.
- ``count``, ``nan``, ``active`` int64 ``(C,)``: the number of values that are not NaN, are NaN, and
  are above 0; ``sum``, ``square`` float64: Σx, Σx²; ``minimum``, ``maximum`` float32.
- ``mean.count`` int64, ``mean.sum``, ``mean.square`` float64 ``(C,)``: the same of the images'
  means.
- ``histogram`` uint32 ``(C, 229)``: values at 8 positions of each map, in the bins of
  ``histogram_bins``.
- ``class`` int64 ``(K,)``; ``class.sum`` float64, ``class.count`` int32 ``(K, C)``: Σ of the
  images' means for each class, and the number of images; only for labeled data.
- ``sample.image`` int64 ``(S,)``; ``sample.mean``, ``sample.peak`` float32, ``sample.position``
  int32 ``(S, C)``: the same random images in every layer, in random order.
- ``pooled.scale`` float64 ``()``: with --pooled, what the float16 values are multiplied by.

**network.safetensors**: ``field.rows/PATH`` int32 ``(H, 2)``, ``field.columns/PATH`` ``(W, 2)``:
the receptive field of each row (column) of the map, as an interval of the preprocessed input,
global gates left out; ``kernel.cosine/PATH`` float16 ``(C, C)``: cosine similarity of the flattened
kernels that compute its channels; ``kernel.norm/PATH`` float32 ``(C,)``.
"""

from convscope._atlas.atlas import Atlas, open_atlas
from convscope._atlas.exemplar_figure import crop_tile
from convscope._atlas.exemplars import Exemplar, Exemplars
from convscope._atlas.reader import LayerAtlas
from convscope._atlas.unit import RankBy, Unit

__all__ = [
    "Atlas",
    "Exemplar",
    "Exemplars",
    "LayerAtlas",
    "RankBy",
    "Unit",
    "crop_tile",
    "open_atlas",
]
