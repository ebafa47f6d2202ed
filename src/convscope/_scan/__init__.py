"""Scanning a dataset: what every channel of a network responds to, in one pass.

scan               the public function: resume, scan what is missing, merge, make thumbnails
plan               which layers, batches and shards
engines            where shards are scanned: in this process, or on a Ray cluster
shards             scanning one shard, its file, and merging all of them
layer_batch_stats  what one batch of activations is reduced to
summaries          mergeable statistics, fed from that
top_k              the exact top k of many images
manifest           what the atlas says of model, dataset, settings and layers
thumbnails         the second pass: thumbnails, crops and feature maps of the exemplars
"""

from convscope._scan.scan import ScanProgress, scan

__all__ = ["ScanProgress", "scan"]
