"""Two threads that look through one network while its owner trains and runs it in a third."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

import convscope as cs

PATHS = ("0", "1", "3", "5")


class Weighed(nn.Sequential):
    """Two convolutions, in place, with statistics that training changes."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 6, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6, 4),
        )


def wrong_passes(passes: int) -> list[str]:
    """What was wrong in so many passes of each thread; weights stay, so each result is known."""
    torch.manual_seed(0)
    network = Weighed().train()
    images = torch.rand(8, 3, 10, 14)
    known = [_reference(one[None]) for one in images]
    model = cs.load(network, input=(3, 10, 14))
    _ = model.layers
    wrong: list[str] = []
    done = threading.Event()

    def look(start: int) -> None:
        for number in range(start, start + passes):
            at = number % len(images)
            got = model.activations(images[at][None], PATHS)
            wrong.extend(
                f"pass {number}: {path}" for path in PATHS if not _same(got[path], known[at][path])
            )

    def own() -> None:
        while not done.is_set():
            _owners_pass(network, images, wrong)

    _run_together([lambda: look(0), lambda: look(3)], own, done, wrong)
    return wrong


def _run_together(
    lookers: list[Callable[[], None]],
    own: Callable[[], None],
    done: threading.Event,
    wrong: list[str],
) -> None:
    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                wrong.append(f"{type(error).__name__}: {error}")

        return run

    threads = [threading.Thread(target=guarded(work)) for work in lookers]
    owner = threading.Thread(target=guarded(own))
    for thread in (*threads, owner):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    owner.join()


def _owners_pass(network: nn.Module, images: Tensor, wrong: list[str]) -> None:
    """A step of training that leaves the weights: all of its gradients must be there."""
    network.zero_grad()
    output = network(images)
    if output.shape != (len(images), 4):
        wrong.append(f"the owner's output is {tuple(output.shape)}")
    output.square().sum().backward()
    if any(parameter.grad is None for parameter in network.parameters()):
        wrong.append("a parameter of the owner has no gradient")
    if not all(part.training for part in network.modules()):
        wrong.append("a module of the owner is not in training mode")


def _reference(image: Tensor) -> dict[str, Tensor]:
    results, x = {}, image
    with torch.no_grad():
        for name, part in Weighed().eval().named_children():
            x = part(x)
            results[name] = x.clone()
    return results


def _same(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs.reshape(ours.shape), atol=1e-6)
