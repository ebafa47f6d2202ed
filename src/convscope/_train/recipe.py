"""How to train, and what is said of each epoch."""

from __future__ import annotations

from dataclasses import dataclass

from convscope._errors import UsageError


@dataclass(frozen=True)
class Epoch:
    """Progress after one epoch: mean training loss, and accuracy on the test part (0 to 1)."""

    number: int
    of: int
    loss: float
    accuracy: float

    def __str__(self) -> str:
        return f"epoch {self.number} of {self.of} · accuracy {self.accuracy:.1%}"


@dataclass(frozen=True)
class Recipe:
    """How to train.

    - ``batch``: pictures in a step; fewer where the data would make less than 50 steps a pass.
    - ``shift``: largest random translation, in pixels; ``flip``: mirror at random.
    - ``precision``: ``"float32"``, or ``"bfloat16"`` (twice as fast where the processor has it).
    - ``patience``: stop after so many epochs without a better accuracy, and keep the best epoch;
      0 trains to the end and keeps the last.
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 0.02
    decay: float = 5e-4
    smoothing: float = 0.1
    shift: int = 2
    flip: bool = False
    precision: str = "float32"
    seed: int = 0
    patience: int = 0

    def checked(self) -> Recipe:
        """The recipe itself; ``UsageError`` where it cannot be followed."""
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision is float32 or bfloat16, not {self.precision!r}")
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(
                f"epochs is at least 1 and batch at least 2, not {self.epochs} and {self.batch}"
            )
        if self.patience < 0:
            raise UsageError(f"patience is 0 (train to the end) or more, not {self.patience}")
        return self
