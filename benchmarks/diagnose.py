"""The time of a diagnosis, against decoding the same images and their forward pass.

python benchmarks/diagnose.py FOLDER [--model demo] [--first 3000]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from timing import compare, table

import convscope as cs
from convscope._data import Subset

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="labeled images of the network's own classes")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--first", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, whole = cs.load(options.model), cs.open_dataset(options.data)
    chosen = np.linspace(0, len(whole) - 1, min(options.first, len(whole))).astype(np.int64)
    data = Subset(whole, chosen, "sample")
    network = model.module.eval()

    def bare() -> None:
        with torch.no_grad():
            for first in range(0, len(data), BATCH):
                last = min(first + BATCH, len(data))
                network(model.prepare([data.image(k) for k in range(first, last)]).values)

    medians = compare(
        {
            "decoding and bare forward": bare,
            "the same again (the noise)": bare,
            "diagnosis, 6 attributions in it": lambda: cs.diagnose(model, data),
        },
        options.rounds,
    )
    table(
        f"{options.model}, {len(data):,} images, one thread", medians, "decoding and bare forward"
    )
    print("  budget × 1.5, attributions apart")


if __name__ == "__main__":
    main()
