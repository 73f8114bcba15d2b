"""The Adam optimiser with decoupled weight decay. Making torch's own imports its compiler, which takes two seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

DECAY, SQUARE_DECAY, SMALL = 0.9, 0.999, 1e-8
"""Constants of the paper: beta_1, beta_2 and epsilon."""


class Adam:
    """D. P. Kingma, J. Ba, ICLR 2015, algorithm 1; weight decay as in I. Loshchilov, F. Hutter, ICLR 2019."""

    def __init__(self, decayed: Sequence[Tensor], others: Sequence[Tensor], rate: float, weight_decay: float) -> None:
        """decayed, others: parameters with and without weight decay. rate: learning rate, may be changed later."""
        self.rate = rate
        self._weight_decay = weight_decay
        self._decayed = list(decayed)
        self.parameters = [*decayed, *others]
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        """Change the parameters; gradients: in the order of ``parameters``."""
        self._steps += 1
        torch._foreach_mul_(self._decayed, 1.0 - self.rate * self._weight_decay)
        torch._foreach_lerp_(self._mean, gradients, 1.0 - DECAY)
        torch._foreach_mul_(self._square, SQUARE_DECAY)
        torch._foreach_addcmul_(self._square, gradients, gradients, 1.0 - SQUARE_DECAY)
        size = torch._foreach_sqrt(self._square)
        torch._foreach_div_(size, math.sqrt(1.0 - SQUARE_DECAY**self._steps))
        torch._foreach_add_(size, SMALL)
        torch._foreach_addcdiv_(self.parameters, self._mean, size, -self.rate / (1.0 - DECAY**self._steps))
