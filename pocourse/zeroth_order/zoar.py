"""ZoAR: REINFORCE with a pooled baseline and a memory of the last iterations' queries, to be asked and told."""

import torch
from jaxtyping import Float
from torch import Tensor

from pocourse import _check

OBJECTIVES = ("min", "max")


class ZoAR:
    r"""A gradient estimator that reuses the queries of its last iterations.

    .. math:: \hat g_t = \frac{1}{n - 1} \sum_{i=0}^{N-1} \sum_{k=1}^{K}
        (y_{t-i,k} - \bar y)\, \frac{u_{t-i,k}}{\sigma},
        \qquad \bar y = \frac1n \sum_{i,k} y_{t-i,k}, \qquad n = \min(t, N)\, K

    Each iteration ``ask`` gives K points around theta, the caller evaluates f there in one batch, and ``tell`` returns
    the gradient. Old directions are used as if they had been drawn at the present theta, without importance weights.
    With history = 1 it is rloo_gradient.

    ``history`` is the number N of iterations in the buffer, the present one included (the paper's experiments: 6).
    ``objective`` says what the values are: "min" for a loss, "max" for a reward, whose sign is then turned. The
    gradient is one to *descend* in both cases. ``queries`` counts the values told, per batch entry.

    Memory: one copy of every direction, 4 N K d bytes a batch entry in float32.

    Shapes: theta [\*batch, dim]; the points of ``ask`` and the values of ``tell`` [direction, \*batch, dim] and
    [direction, \*batch]; the gradient [\*batch, dim]. The batch is fixed by the first ``ask``.
    Raises: ValueError for fewer than 2 queries, a history below 1, a sigma that is not positive, an unknown objective,
    directions that would not fit into the memory that is free; for points or values of other shapes; for ``tell``
    without ``ask``.
    Source: Qiu et al. 2025 (ZoAR, arXiv 2506.14460) after the authors' public code. That code of 2025 divides by n, a
    later one by n - 1; here it is n - 1, which has no bias while theta stands still. At the start the buffer is used as
    far as it is filled.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_queries: int,
        history: int,
        sigma: float,
        generator: torch.Generator,
        objective: str = "min",
        dtype: torch.dtype = torch.float32,
    ):
        _check.number(at_least=1, dim=dim, history=history)
        _check.number(at_least=2, num_queries=num_queries)  # a single first value has no mean to be compared with
        _check.number(above=0, sigma=sigma)
        if objective not in OBJECTIVES:
            raise ValueError(
                f"expected objective as one of {', '.join(OBJECTIVES)}; got {objective!r}. Say 'min' for a loss and "
                "'max' for a reward."
            )
        self.dim, self.num_queries, self.history, self.sigma = int(dim), int(num_queries), int(history), sigma
        self.objective, self.dtype, self.generator = objective, dtype, generator
        self.num_directions = self.num_queries  # as the other methods have it: here one for each query
        self.queries = 0
        self._iterations = 0
        self._directions = self._values = self._asked = None

    @property
    def batch(self) -> tuple[int, ...] | None:
        """The batch shape; None before the first ``ask``.

        Shapes: those of theta without its last axis.
        Gradient: none.
        Raises: nothing.
        Source: ours.
        """
        return None if self._directions is None else tuple(self._directions.shape[2:-1])

    def ask(
        self, theta: Float[Tensor, "*batch dim"], directions: Float[Tensor, "direction *batch dim"] | None = None
    ) -> Float[Tensor, "direction *batch dim"]:
        r"""The points at which f is wanted.

        .. math:: x_k = \theta + \sigma u_k, \qquad u_k \sim \mathcal{N}(0, I)

        ``directions`` may be handed in, to share them with other methods; else they come from the generator. Asking
        again before telling draws anew.

        Shapes: theta [\*batch, dim], directions and result [direction, \*batch, dim].
        Gradient: none wanted.
        Raises: ValueError for shapes, dtype or device that do not fit, NaN, or too little memory.
        Source: Qiu et al. 2025 (ZoAR).
        """
        _check.axes(1, theta=theta)
        _check.floating(theta=theta)
        if theta.dtype != self.dtype or theta.device != self.generator.device:
            raise ValueError(
                f"expected theta in {self.dtype} on {self.generator.device}; got {theta.dtype} on {theta.device}. "
                "Convert it, or make the ZoAR with its dtype and a generator of its device."
            )
        batch = theta.shape[:-1] if self._directions is None else self._directions.shape[2:-1]
        _check.shape((*batch, self.dim), theta=theta)
        shape = (self.num_queries, *batch, self.dim)
        if self._directions is None:
            self._make_room(shape, theta.device)
        if directions is None:
            directions = torch.randn(shape, generator=self.generator, dtype=self.dtype, device=theta.device)
        else:
            _check.floating(directions=directions)
            _check.shape(shape, directions=directions)
        self._asked = directions
        return theta.detach() + self.sigma * directions

    def tell(self, values: Float[Tensor, "direction *batch"]) -> Float[Tensor, "*batch dim"]:
        r"""The gradient, from the values at the points asked for and those remembered.

        .. math:: \hat g = \frac{1}{n - 1} \sum (y - \bar y)\, u / \sigma

        Shapes: values [direction, \*batch], in the order of the points -> [\*batch, dim].
        Gradient: none.
        Raises: ValueError for values that were not asked for, of another shape or dtype, or NaN; nothing is remembered
        then, and they can be told again.
        Source: Qiu et al. 2025 (ZoAR).
        """
        if self._asked is None:
            raise ValueError(
                "expected an ask before every tell; got values that were not asked for. Call ask(theta) first."
            )
        _check.floating(values=values)
        _check.shape(self._asked.shape[:-1], values=values)
        slot = self._iterations % self.history
        self._directions[slot] = self._asked
        self._values[slot] = values.detach() if self.objective == "min" else -values.detach()
        self._asked = None
        self._iterations += 1
        self.queries += self.num_queries
        return self._gradient()

    def state_dict(self) -> dict:
        """Everything that the next ``ask`` and ``tell`` depend on, the generator's state included.

        Shapes: directions [history, direction, *batch, dim], values [history, direction, *batch]; copies.
        Gradient: none.
        Raises: nothing.
        Source: ours.
        """
        kept = {"_directions", "_values", "_asked"}
        tensors = {name: None if (x := getattr(self, name)) is None else x.clone() for name in kept}
        numbers = {name: getattr(self, name) for name in ("dim", "num_queries", "history", "sigma", "objective")}
        return {
            **numbers,
            **tensors,
            "queries": self.queries,
            "_iterations": self._iterations,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on where another ZoAR of the same settings stood, bit for bit.

        Shapes: as state_dict.
        Gradient: none.
        Raises: ValueError for a state of other settings.
        Source: ours.
        """
        for name in ("dim", "num_queries", "history", "sigma", "objective"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"expected a state with {name} = {getattr(self, name)!r}; got {state[name]!r}. Make the ZoAR with "
                    "the settings of the saved one."
                )
        for name in ("_directions", "_values", "_asked"):
            setattr(self, name, None if state[name] is None else state[name].clone())
        self.queries, self._iterations = state["queries"], state["_iterations"]
        self.generator.set_state(state["generator"])

    def _gradient(self) -> Tensor:
        filled = min(self._iterations, self.history)
        values, directions = self._values[:filled].flatten(0, 1), self._directions[:filled].flatten(0, 1)
        weights = (values - values.mean(0)) / ((len(values) - 1) * self.sigma)
        return torch.einsum("k...,k...d->...d", weights, directions)

    def _make_room(self, shape: tuple[int, ...], device: torch.device) -> None:
        needed = self.history * torch.Size(shape).numel() * torch.empty(0, dtype=self.dtype).element_size()
        _check.memory(
            needed,
            device,
            what=f"{self.history} iterations of {list(shape)}",
            remedy="Take fewer queries, a shorter history, or replay the directions from seeds.",
        )
        self._directions = torch.zeros(self.history, *shape, dtype=self.dtype, device=device)
        self._values = torch.zeros(self.history, *shape[:-1], dtype=self.dtype, device=device)
