"""Small random networks of odd modules, whose makers know what every dimension means."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import torch
from hypothesis import strategies as st
from odd_layouts import restoring
from odd_meaning import Meaning, image_map
from odd_steps import STEPS, Step
from torch import Tensor, nn

# Kinds of steps that are not generated yet: what convscope shows of them is wrong today.
PENDING: list[str] = []

Plan = tuple[tuple[int, int], tuple[tuple[str, int], ...]]


class Odd(nn.Module):
    """Steps one after another, the mean over positions, and a linear layer."""

    def __init__(self, steps: list[nn.Module], channels: int) -> None:
        super().__init__()
        for number, part in enumerate(steps):
            self.add_module(f"s{number}", part)
        self.count = len(steps)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(self.count):
            x = getattr(self, f"s{number}")(x)
        return self.head(x.mean((2, 3)))


@dataclass
class Made:
    """A network, and the meaning of each result by path."""

    module: Odd
    size: tuple[int, int]
    meanings: dict[str, Meaning] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)


def build(plan: Plan) -> Made:
    """The network of a plan: the same weights each time."""
    size, wanted = plan
    with torch.random.fork_rng():
        torch.manual_seed(1)
        meaning = image_map(3, *size)
        parts: list[nn.Module] = []
        meanings: dict[str, Meaning] = {}
        kinds = []
        for kind, salt in (("conv", 0), *wanted, ("restored", 0)):
            kind, made = fitting(kind, meaning, salt)
            path = f"s{len(parts)}"
            meanings[path] = meaning = made.meaning
            meanings |= {f"{path}.{name}": inner for name, inner in made.inside.items()}
            parts.append(made.module)
            kinds.append(kind)
        channels = meaning.dims[1].size
        module = Odd(parts, channels)
    module.train(len(wanted) % 2 == 0)
    for number, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    return Made(module, size, meanings, kinds)


def fitting(kind: str, meaning: Meaning, salt: int) -> tuple[str, Step]:
    """The step of that kind, or the next kind's that fits here."""
    if kind == "restored":
        return kind, restoring(meaning) if not meaning.is_map else Step(nn.Identity(), meaning)
    kinds = [other for other in STEPS if other == kind or other not in PENDING]
    at = kinds.index(kind)
    tried = ((other, STEPS[other](meaning, Random(salt))) for other in kinds[at:] + kinds[:at])
    return next((other, made) for other, made in tried if made is not None)


def plans(longest: int = 9) -> st.SearchStrategy[Plan]:
    """Plans of networks; steps that do not fit where they stand are left out."""
    kinds = [kind for kind in STEPS if kind not in PENDING]
    steps = st.tuples(st.sampled_from(kinds), st.integers(0, 999))
    sizes = st.sampled_from([(8, 12), (12, 8), (8, 16), (16, 12)])
    return st.tuples(sizes, st.lists(steps, min_size=1, max_size=longest).map(tuple))
