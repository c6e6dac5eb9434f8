"""How a step is made of a gradient: three rules, each with a memory of its own. theta + update is the next theta."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check


class SGD:
    r"""The plain step.

    .. math:: \Delta\theta = -\eta\, g

    Shapes: the gradient and the update [\*batch, dim].
    Raises: ValueError for a learning rate that is not positive.
    Source: textbook.
    """

    def __init__(self, *, learning_rate: float):
        _check.number(above=0, learning_rate=learning_rate)
        self.learning_rate = learning_rate

    def __call__(self, gradient: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The update that belongs to a gradient."""
        return -self.learning_rate * gradient


class Adam:
    r"""Adam without bias correction, as in the public code of ZoAR.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
        \Delta\theta = -\eta\, \frac{m}{\sqrt{v} + \epsilon}

    m and v start at zero and are not corrected for it: the first step is (1 - beta_1) / sqrt(1 - beta_2) times as long
    as torch.optim.Adam's, which is 1 for the defaults; later ones differ until m and v have filled. A batch entry's
    memory is its own.

    Shapes: the gradient and the update [\*batch, dim].
    Raises: ValueError for a learning rate or eps that is not positive, betas outside [0, 1).
    Source: Kingma & Ba 2015, without their section 3; defaults as in the public code of Qiu et al. 2025 (ZoAR).
    """

    def __init__(self, *, learning_rate: float, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-8):
        _check.number(above=0, learning_rate=learning_rate, eps=eps)
        for name, beta in zip(("beta_1", "beta_2"), betas, strict=True):
            _check.number(at_least=0, below=1, **{name: beta})
        self.learning_rate, self.betas, self.eps = learning_rate, betas, eps
        self.m = self.v = None

    def __call__(self, gradient: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The update that belongs to a gradient; m and v take it in."""
        if self.m is None:
            self.m, self.v = torch.zeros_like(gradient), torch.zeros_like(gradient)
        _check.shape(self.m.shape, gradient=gradient)
        first, second = self.betas
        self.m = torch.lerp(gradient, self.m, first)
        self.v = torch.lerp(self._seen(gradient) ** 2, self.v, second)
        return -self.learning_rate * self.m / (self.v.sqrt() + self.eps)

    def _seen(self, gradient: Tensor) -> Tensor:
        """What the second moment is of."""
        return gradient


class RAdaZO(Adam):
    r"""R-AdaZO: Adam whose second moment is that of the smoothed gradient.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) m^2, \qquad
        \Delta\theta = -\eta\, \frac{m}{\sqrt{v} + \epsilon}

    A zeroth-order gradient is mostly noise, and its square measures the noise. m has less of it, so v is smaller and
    the steps are longer.

    Shapes: the gradient and the update [\*batch, dim].
    Raises: ValueError as Adam.
    Source: Shu et al. 2025 (R-AdaZO, arXiv 2502.01014) as the public code of Qiu et al. 2025 (ZoAR) has it; eps stands
    outside of the root, as in Adam above.
    """

    def _seen(self, gradient: Tensor) -> Tensor:
        return self.m
