"""The optimisers Adam, with decoupled weight decay, and AMSGrad. Making torch's own imports its compiler: two seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

DECAY, SQUARE_DECAY, SMALL = 0.9, 0.999, 1e-8
"""Constants of the paper: beta_1, beta_2 and epsilon."""
BOUND, UNBOUNDED_STEPS = 3.0, 10
"""Of a bounded optimiser: times the usual norm of a gradient, and first steps, in which nothing is usual yet."""


class Adam:
    """D. P. Kingma, J. Ba, ICLR 2015, algorithm 1; weight decay as in I. Loshchilov, F. Hutter, ICLR 2019."""

    def __init__(
        self,
        decayed: Sequence[Tensor],
        others: Sequence[Tensor],
        rate: float,
        weight_decay: float,
        amsgrad: bool = False,
        bounded: bool = False,
    ) -> None:
        """decayed, others: parameters with and without weight decay. rate: learning rate, may be changed later.

        amsgrad: divide by the largest mean square so far (S. J. Reddi, S. Kale, S. Kumar, ICLR 2018, algorithm 2). bounded: the
        gradient of a tensor is scaled down to ``BOUND`` times its running root mean square norm (norm clipping of R. Pascanu,
        T. Mikolov, Y. Bengio, ICML 2013, with a threshold that follows the training). Otherwise gradients that grow after they
        have been small for long move everything by several rates at once, and the next ones are larger still.
        """
        self.rate = rate
        self._weight_decay, self._bounded = weight_decay, bounded
        self._decayed = list(decayed)
        self.parameters = [*decayed, *others]
        self._mean = [torch.zeros_like(p) for p in self.parameters]
        self._square = [torch.zeros_like(p) for p in self.parameters]
        self._largest = [torch.zeros_like(p) for p in self.parameters] if amsgrad else None
        self._steps = 0

    @property
    def state(self) -> tuple[int, list[Tensor]]:
        """The number of steps, and the tensors that steps change besides the parameters."""
        return self._steps, [*self._mean, *self._square, *(self._largest or [])]

    @torch.no_grad()
    def resume(self, steps: int, tensors: Sequence[Tensor]) -> None:
        """Go on from a state, as ``state`` gave it: steps done, and tensors of the parameters' shapes."""
        self._steps = steps
        torch._foreach_copy_(self.state[1], list(tensors))

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...] | list[Tensor]) -> None:
        """Change the parameters by one step. gradients: of the parameters' shapes, in the order of ``parameters``."""
        self._steps += 1
        if self._decayed and self._weight_decay:
            torch._foreach_mul_(self._decayed, 1.0 - self.rate * self._weight_decay)
        if self._bounded:
            gradients = self._within_bound(gradients)
        torch._foreach_lerp_(self._mean, gradients, 1.0 - DECAY)
        torch._foreach_mul_(self._square, SQUARE_DECAY)
        torch._foreach_addcmul_(self._square, gradients, gradients, 1.0 - SQUARE_DECAY)
        if self._largest is not None:
            torch._foreach_maximum_(self._largest, self._square)
        size = torch._foreach_sqrt(self._square if self._largest is None else self._largest)
        torch._foreach_div_(size, math.sqrt(1.0 - SQUARE_DECAY**self._steps))
        torch._foreach_add_(size, SMALL)
        torch._foreach_addcdiv_(self.parameters, self._mean, size, -self.rate / (1.0 - DECAY**self._steps))

    def _within_bound(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return gradients, each scaled down to the bound where it is beyond; ``_square`` is that of the steps before."""
        if self._steps <= UNBOUNDED_STEPS:
            return list(gradients)
        usual = torch.stack(torch._foreach_norm(self._square, 1)).div_(1.0 - SQUARE_DECAY ** (self._steps - 1)).sqrt_()
        factors = (BOUND * usual / torch.stack(torch._foreach_norm(list(gradients)))).clamp_(max=1.0)
        # Where all gradients so far were zero nothing is known; 0 / 0 is no number.
        factors = torch.where((usual > 0) & factors.isfinite(), factors, 1.0)
        return list(torch._foreach_mul(list(gradients), list(factors.unbind())))
