"""The call of an operation that a rule gets, and what its arguments depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from convscope._models.tracing.spans import Shape, Spans, nothing, union

ROWS, COLUMNS, IMAGES, PLACE = range(4)
"""What is followed: image rows and columns, which images of the batch, the place on a grid."""

KINDS = {ROWS: 6, COLUMNS: 6, IMAGES: 6, PLACE: 1}


@dataclass(frozen=True, eq=False)
class Dependence:
    """What the elements of a tensor depend on, by axis.

    - ``spans``: of image rows, of columns, of the images of the batch; and places.
    - ``data_dependent``: which rows and columns they are depends on the values in the image.
    - ``unknown``: operations on the way that no rule describes; everything was assumed of them.
    """

    spans: Mapping[int, Spans]
    data_dependent: bool = False
    unknown: frozenset[str] = frozenset()

    def along(self, axis: int) -> Spans:
        """The spans along an axis that is followed."""
        return self.spans[axis]


class Call:
    """An operation, its arguments and what it returned.

    - ``sources``: the tensors among its arguments that depend on the image.
    - ``extents``: height, width and number of images, by axis.
    """

    def __init__(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        result: Any,
        sources: dict[int, tuple[Tensor, Dependence]],
        extents: Mapping[int, int],
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.outputs = list(tensors(result))
        self.sources = sources
        self.extents = extents

    def __getitem__(self, name: str) -> Any:
        """The argument ``name`` of the operation's schema, or its default."""
        position, default = _arguments(self.func)[name]
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default

    def has(self, name: str) -> bool:
        """Whether the operation takes an argument ``name``."""
        return name in _arguments(self.func)

    @property
    def out(self) -> Tensor:
        """What it returned, or the first of it."""
        return self.outputs[0]

    def shape(self, name: str) -> Shape:
        """The shape of a tensor argument."""
        return tuple(self[name].shape)

    def of(self, tensor: Tensor | None, axis: int) -> Spans:
        """The spans of a tensor among the arguments; nothing where it is a constant."""
        if tensor is None:
            return nothing(0, KINDS[axis])
        source = self.sources.get(id(tensor))
        return source[1].along(axis) if source else nothing(tensor.ndim, KINDS[axis])

    def spans(self, name: str, axis: int) -> Spans:
        """The spans of the tensor argument ``name``."""
        return self.of(self[name], axis)

    def depends(self, name: str) -> bool:
        """Whether the argument ``name`` is a tensor that depends on the image."""
        return self.has(name) and id(self[name]) in self.sources

    def dims(self, name: str, ndim: int) -> list[int]:
        """Dimensions given as one number, as several, or as none for all of them; from 0 on."""
        given = self[name] if self.has(name) else None
        if isinstance(given, int):
            given = [given]
        return [dim % ndim for dim in given] if given else list(range(ndim))

    def all_sources(self, axis: int) -> Spans:
        """The hull of everything that the operation reads, without dimensions."""
        return union([_total(dependence.along(axis)) for _, dependence in self.sources.values()])


def _total(spans: Spans) -> Spans:
    total: Spans = spans.reshape(len(spans), -1).max(1)
    return total


@lru_cache(maxsize=1024)
def _arguments(func: Any) -> dict[str, tuple[int, Any]]:
    """Position and default by name."""
    return {
        argument.name: (position, argument.default_value)
        for position, argument in enumerate(func._schema.arguments)
    }


def tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results, looking into tuples and lists."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)


def factors(call: Call) -> tuple[str, str]:
    """The names of the two factors in the schema of a product."""
    pairs = (
        ("mat1", "mat2"),
        ("batch1", "batch2"),
        ("mat", "vec"),
        ("self", "mat2"),
        ("input", "weight"),
        ("self", "vec"),
        ("self", "tensor"),
        ("self", "other"),
    )
    return next(pair for pair in pairs if all(map(call.has, pair)))
