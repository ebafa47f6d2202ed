"""Checkpointed blocks: gradients and edits are those of the network without checkpointing."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn

import convscope as cs
from convscope._models.checkpointing import without_checkpointing

NAMES = ("_checkpoint_impl", "CheckpointFunction", "_checkpoint_without_reentrant_generator")


class Network(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Tanh())
        self.head = nn.Conv2d(4, 2, 3)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.reentrant is None:
            x = self.block(x)
        else:
            x = checkpointing.checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.head(x).mean((2, 3))


def _gradients(reentrant: bool | None, layer: str, edited: bool) -> list[Tensor]:
    model = cs.load(Network(reentrant), input=(3, 9, 9))
    if edited:
        model = model.edited({"block.0": lambda maps: maps * 2})
    images = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    maps = model.activations(images, [layer, "head"], grad=True)
    return list(torch.autograd.grad(maps["head"].square().sum(), [maps[layer], images]))


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("layer", ["stem", "block.0", "block.2", "head"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients(reentrant: bool, layer: str, edited: bool) -> None:
    plain = _gradients(None, layer, edited)
    for gradient, expected in zip(_gradients(reentrant, layer, edited), plain, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_torch_is_left_as_it_was() -> None:
    before = {name: getattr(checkpointing, name, None) for name in NAMES}
    with pytest.raises(KeyboardInterrupt), without_checkpointing(), without_checkpointing():
        raise KeyboardInterrupt
    assert {name: getattr(checkpointing, name, None) for name in NAMES} == before


@pytest.mark.parametrize("reentrant", [False, True])
def test_other_threads_go_on_checkpointing(reentrant: bool) -> None:
    """There the block runs again in the backward pass; here it does not."""
    runs: dict[str, int] = {"here": 0, "there": 0}

    def run(name: str) -> None:
        def block(x: Tensor) -> Tensor:
            runs[name] += 1
            return x.sin()

        x = torch.ones(3, requires_grad=True)
        checkpointing.checkpoint(block, x, use_reentrant=reentrant).sum().backward()

    with without_checkpointing():
        run("here")
        thread = threading.Thread(target=run, args=("there",))
        thread.start()
        thread.join()
    assert runs == {"here": 1, "there": 2}
