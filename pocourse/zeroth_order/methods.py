"""The estimators of the chapter asked and told like ZoAR, so that one loop can run them all on the same draws.

Each spends a fixed number of queries an iteration: ``ask`` gives that many points, ``tell`` takes f there and returns
a gradient to descend. The directions are handed in, ``num_directions`` of them, fewer than the queries where a method
asks for theta itself or for both ends of a direction.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check
from pocourse.zeroth_order.estimators import antithetic_gradient, forward_gradient, rloo_gradient


class Forward:
    r"""Forward differences: K - 1 directions and the value at theta, which is the baseline.

    Shapes: theta [\*batch, dim]; points [num_queries, \*batch, dim], theta itself first; values [num_queries, \*batch].
    Raises: ValueError for fewer than 2 queries or a sigma that is not positive.
    Source: Nesterov & Spokoiny 2017; "vanilla" in Qiu et al. 2025 (ZoAR).
    """

    def __init__(self, *, num_queries: int, sigma: float):
        _check.number(at_least=2, num_queries=num_queries)
        _check.number(above=0, sigma=sigma)
        self.num_queries, self.num_directions, self.sigma = num_queries, num_queries - 1, sigma
        self._asked = None

    def ask(
        self, theta: Float[Tensor, "*batch dim"], directions: Float[Tensor, "direction *batch dim"]
    ) -> Float[Tensor, "query *batch dim"]:
        r"""The points at which f is wanted.

        .. math:: x_0 = \theta, \qquad x_k = \theta + \sigma u_k

        Shapes: theta [\*batch, dim], directions [num_directions, \*batch, dim] -> [num_queries, \*batch, dim].
        Gradient: none wanted.
        Raises: ValueError for shapes that do not fit.
        Source: Nesterov & Spokoiny 2017.
        """
        self._remember(theta, directions)
        return torch.cat((theta[None], theta + self.sigma * directions))

    def tell(self, values: Float[Tensor, "query *batch"]) -> Float[Tensor, "*batch dim"]:
        r"""The gradient, from the values at the points asked for.

        Shapes: values [num_queries, \*batch], in the order of the points -> [\*batch, dim].
        Gradient: none.
        Raises: ValueError for values that were not asked for, or of another shape.
        Source: forward_gradient.
        """
        directions = self._take(values)
        return forward_gradient(values[1:], values[0], directions, sigma=self.sigma)

    def _remember(self, theta: Tensor, directions: Tensor) -> None:
        _check.floating(theta=theta, directions=directions)
        _check.shape((self.num_directions, *theta.shape), directions=directions)
        self._asked = directions

    def _take(self, values: Tensor) -> Tensor:
        if self._asked is None:
            raise ValueError(
                "expected an ask before every tell; got values that were not asked for. Call ask(theta, u) first."
            )
        _check.shape((self.num_queries, *self._asked.shape[1:-1]), values=values)
        directions, self._asked = self._asked, None
        return directions


class LeaveOneOut(Forward):
    r"""REINFORCE, each value with the mean of the others as its baseline: K directions, K queries.

    Shapes: as Forward; points [num_queries, \*batch, dim], one for each direction.
    Raises: ValueError as Forward.
    Source: Kool, van Hoof & Welling 2019; "ZoAR w/o history" in Qiu et al. 2025 (ZoAR).
    """

    def __init__(self, *, num_queries: int, sigma: float):
        super().__init__(num_queries=num_queries, sigma=sigma)
        self.num_directions = num_queries

    def ask(
        self, theta: Float[Tensor, "*batch dim"], directions: Float[Tensor, "direction *batch dim"]
    ) -> Float[Tensor, "query *batch dim"]:
        r"""The points at which f is wanted.

        .. math:: x_k = \theta + \sigma u_k

        Shapes: theta [\*batch, dim], directions [num_directions, \*batch, dim] -> [num_queries, \*batch, dim].
        Gradient: none wanted.
        Raises: ValueError for shapes that do not fit.
        Source: Kool, van Hoof & Welling 2019.
        """
        self._remember(theta, directions)
        return theta + self.sigma * directions

    def tell(self, values: Float[Tensor, "query *batch"]) -> Float[Tensor, "*batch dim"]:
        r"""The gradient, from the values at the points asked for.

        Shapes: values [num_queries, \*batch] -> [\*batch, dim].
        Gradient: none.
        Raises: ValueError for values that were not asked for, or of another shape.
        Source: rloo_gradient.
        """
        directions = self._take(values)
        return rloo_gradient(values, directions, sigma=self.sigma)


class Antithetic(Forward):
    r"""Central differences: K / 2 directions, each asked both ways.

    Shapes: as Forward; points [num_queries, \*batch, dim], all theta + sigma u first, then all theta - sigma u.
    Raises: ValueError as Forward, or for an odd number of queries.
    Source: Spall 1992 (SPSA) with Gaussian directions.
    """

    def __init__(self, *, num_queries: int, sigma: float):
        super().__init__(num_queries=num_queries, sigma=sigma)
        if num_queries % 2:
            raise ValueError(
                f"expected an even number of queries, since every direction takes two; got {num_queries}. "
                "Take one more or one less."
            )
        self.num_directions = num_queries // 2

    def ask(
        self, theta: Float[Tensor, "*batch dim"], directions: Float[Tensor, "direction *batch dim"]
    ) -> Float[Tensor, "query *batch dim"]:
        r"""The points at which f is wanted.

        .. math:: x_p = \theta + \sigma u_p, \qquad x_{P + p} = \theta - \sigma u_p

        Shapes: theta [\*batch, dim], directions [num_directions, \*batch, dim] -> [num_queries, \*batch, dim].
        Gradient: none wanted.
        Raises: ValueError for shapes that do not fit.
        Source: Spall 1992 (SPSA).
        """
        self._remember(theta, directions)
        step = self.sigma * directions
        return torch.cat((theta + step, theta - step))

    def tell(self, values: Float[Tensor, "query *batch"]) -> Float[Tensor, "*batch dim"]:
        r"""The gradient, from the values at the points asked for.

        Shapes: values [num_queries, \*batch] -> [\*batch, dim].
        Gradient: none.
        Raises: ValueError for values that were not asked for, or of another shape.
        Source: antithetic_gradient.
        """
        directions = self._take(values)
        return antithetic_gradient(*values.chunk(2), directions, sigma=self.sigma)


class HistoryAverage:
    r"""The mean of a method's last N gradients: a box filter.

    .. math:: \bar g_t = \frac1n \sum_{i=0}^{n-1} \hat g_{t-i}, \qquad n = \min(t, N)

    Over ``Forward`` it is the comparison of ZoAR's public code that is called ZoHS there; over ``LeaveOneOut`` it is
    ZoAR with each iteration's own mean for its baseline.

    Shapes: those of the method it averages. Memory: N gradients.
    Raises: ValueError for a history below 1, and as the method.
    Source: Qiu et al. 2025 (ZoAR) after the authors' public code.
    """

    def __init__(self, method: Forward, *, history: int):
        _check.number(at_least=1, history=history)
        self.method, self.history = method, int(history)
        self.num_queries, self.num_directions = method.num_queries, method.num_directions
        self._gradients, self._iterations = None, 0

    def ask(
        self, theta: Float[Tensor, "*batch dim"], directions: Float[Tensor, "direction *batch dim"]
    ) -> Float[Tensor, "query *batch dim"]:
        r"""The points that the method asks for.

        Shapes: as the method's.
        Gradient: none wanted.
        Raises: ValueError as the method.
        Source: as the method.
        """
        return self.method.ask(theta, directions)

    def tell(self, values: Float[Tensor, "query *batch"]) -> Float[Tensor, "*batch dim"]:
        r"""The mean of this iteration's gradient and those before it.

        Shapes: values [num_queries, \*batch] -> [\*batch, dim].
        Gradient: none.
        Raises: ValueError as the method.
        Source: Qiu et al. 2025 (ZoAR) after the authors' public code.
        """
        gradient = self.method.tell(values)
        if self._gradients is None:
            self._gradients = torch.zeros(self.history, *gradient.shape, dtype=gradient.dtype, device=gradient.device)
        self._gradients[self._iterations % self.history] = gradient
        self._iterations += 1
        return self._gradients[: min(self._iterations, self.history)].mean(0)
