"""Exact solutions found another way, for claims about closed forms: by enumeration and by search."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor


def best_ratio(
    prob: Float[Tensor, "draw action"], advantage: Float[Tensor, "draw action"], price: Float[Tensor, "draw action"]
) -> Float[Tensor, "draw action"]:
    """Maximise sum p (r A - price / 2 (r - 1)^2) over r >= 0 with sum p r = 1, by trying every set of positive ratios.

    For each set the stationary point solves a linear system; the best of those that are feasible is
    the optimum, because the optimum is one of them.
    """
    count, actions = prob.shape
    found, value = torch.zeros_like(prob), prob.new_full((count,), -torch.inf)
    for size in range(1, actions + 1):
        for positive in itertools.combinations(range(actions), size):
            matrix = torch.zeros(count, actions + 1, actions + 1, dtype=prob.dtype)
            right = torch.zeros(count, actions + 1, dtype=prob.dtype)
            matrix[:, :actions, :actions] = torch.eye(actions, dtype=prob.dtype)
            for action in positive:
                matrix[:, action, action] = price[:, action]
                matrix[:, action, actions] = 1
                right[:, action] = advantage[:, action] + price[:, action]
            matrix[:, actions, :actions], right[:, actions] = prob, 1
            solution, singular = torch.linalg.solve_ex(matrix, right)
            ratio = solution[:, :actions]
            gain = (prob * (ratio * advantage - price / 2 * (ratio - 1) ** 2)).sum(-1)
            better = (singular == 0) & (ratio >= -1e-12).all(-1) & (gain > value)
            found, value = torch.where(better[:, None], ratio, found), torch.where(better, gain, value)
    return found


def best_in_tv_ball(
    prob: Float[Tensor, "draw action"], advantage: Float[Tensor, "draw action"], radius: float
) -> Float[Tensor, "draw action"]:
    """Maximise sum q A over distributions q with sum |q - p| <= radius, by trying every corner of that set."""
    count, actions = prob.shape
    eye = torch.eye(actions, dtype=prob.dtype)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=actions))[1:-1], dtype=prob.dtype)
    normals = torch.cat((eye, signs))
    values = torch.cat((torch.zeros_like(prob), prob @ signs.T + radius), -1)
    corners = torch.tensor(list(itertools.combinations(range(len(normals)), actions - 1)))
    ones = torch.ones(1, actions, dtype=prob.dtype).expand(len(corners), 1, actions)
    matrix = torch.cat((normals[corners], ones), 1)
    regular = torch.linalg.det(matrix).abs() > 1e-9
    corners, matrix = corners[regular], matrix[regular]
    right = torch.cat((values[:, corners], torch.ones(count, len(corners), 1, dtype=prob.dtype)), -1)
    point = torch.linalg.solve(matrix, right[..., None]).squeeze(-1)
    allowed = (point >= -1e-12).all(-1) & ((point - prob[:, None]).abs().sum(-1) <= radius + 1e-12)
    gain = torch.where(allowed, (point * advantage[:, None]).sum(-1), -torch.inf)
    return point[torch.arange(count), gain.argmax(-1)]


def golden_section(function, low: Tensor, high: Tensor) -> Tensor:
    """Where a function with one hump is largest, between ``low`` and ``high``, to about 1e-8 of the width."""
    golden = (5**0.5 - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        uphill = function(left) < function(right)
        low, high = torch.where(uphill, left, low), torch.where(uphill, high, right)
    return (low + high) / 2
