"""policy_gradient.estimators: returns, GAE and the REINFORCE loss, by hand and by their properties."""

import math

import pytest
import torch

from pocourse.policy_gradient import discounted_returns, gae, reinforce_loss

F64 = torch.float64


def tensor(*values):
    return torch.tensor(values, dtype=F64)


def flag(*values):
    return torch.tensor(values, dtype=torch.bool)


def refused(*words):
    return pytest.raises(ValueError, match=r"(?s)expected .*got .*" + ".*".join(words))


def episode(time=7, batch=(3, 2), ends=True, seed=0):
    """Random rewards and values in which next_value[t] is value[t + 1] wherever no episode ends."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    reward, value, end_value = normal(time, *batch), normal(time, *batch), normal(time, *batch)
    kind = torch.randint(0, 6, (time, *batch), generator=generator)
    terminated, truncated = (kind == 0, kind == 1) if ends else (kind > 9, kind > 9)
    following = torch.cat((value[1:], end_value[-1:]))
    next_value = torch.where(terminated | truncated, end_value, following)
    return reward, value, next_value, terminated, truncated


def test_discounted_returns_by_hand():
    reward = tensor(1, 2, 4, 8)
    returns = discounted_returns(reward, flag(False, True, False, False), gamma=0.5)
    torch.testing.assert_close(returns, tensor(2, 2, 8, 8), rtol=0, atol=0)


def test_discounted_returns_time_first():
    reward = torch.stack((tensor(1, 2), tensor(10, 20)))  # [time, env]
    returns = discounted_returns(reward, torch.zeros(2, 2, dtype=torch.bool), gamma=0.1)
    torch.testing.assert_close(returns, torch.stack((tensor(2, 4), tensor(10, 20))))


@pytest.mark.parametrize("gamma", [0, 1, 0.9])
def test_discounted_returns_is_the_sum(gamma):
    reward, *_ = episode()
    returns = discounted_returns(reward, torch.zeros_like(reward, dtype=torch.bool), gamma=gamma)
    for t in range(len(reward)):
        total = sum(gamma**k * reward[t + k] for k in range(len(reward) - t))
        torch.testing.assert_close(returns[t], total, rtol=1e-13, atol=1e-13)


def test_gae_by_hand_without_an_end():
    # delta = (1 + .5*4 - 2, 3 + .5*6 - 4) = (1, 2); A_1 = 2, A_0 = 1 + .5*.5*2 = 1.5
    no = flag(False, False)
    advantage = gae(tensor(1, 3), tensor(2, 4), tensor(4, 6), no, no, gamma=0.5, gae_lambda=0.5)
    torch.testing.assert_close(advantage, tensor(1.5, 2), rtol=0, atol=0)


def test_gae_by_hand_truncation_bootstraps_and_termination_does_not():
    no, end = flag(False, False), flag(True, False)
    data = (tensor(1, 3), tensor(2, 4), tensor(10, 6))
    truncated = gae(*data, no, end, gamma=0.5, gae_lambda=0.5)
    terminated = gae(*data, end, no, gamma=0.5, gae_lambda=0.5)
    torch.testing.assert_close(truncated, tensor(1 + 0.5 * 10 - 2, 2), rtol=0, atol=0)
    torch.testing.assert_close(terminated, tensor(1 - 2, 2), rtol=0, atol=0)


def test_gae_termination_wins_over_truncation():
    reward, value, next_value, terminated, _ = episode()
    both = gae(reward, value, next_value, terminated, terminated, gamma=0.9, gae_lambda=0.8)
    one = gae(reward, value, next_value, terminated, torch.zeros_like(terminated), gamma=0.9, gae_lambda=0.8)
    torch.testing.assert_close(both, one, rtol=0, atol=0)


def test_gae_lambda_0_is_the_td_error():
    reward, value, next_value, terminated, truncated = episode()
    td_error = reward + 0.9 * next_value * ~terminated - value
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.9, gae_lambda=0)
    torch.testing.assert_close(advantage, td_error, rtol=1e-14, atol=1e-14)


def test_gae_lambda_1_telescopes_to_returns_minus_value():
    reward, value, next_value, terminated, truncated = episode()
    bootstrap = truncated.clone()
    bootstrap[-1] |= ~terminated[-1]  # the end of the rollout is a cut like any other
    with_last_value = reward + 0.9 * torch.where(bootstrap, next_value, 0)
    returns = discounted_returns(with_last_value, terminated | truncated, gamma=0.9)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.9, gae_lambda=1)
    torch.testing.assert_close(advantage, returns - value, rtol=1e-13, atol=1e-13)


def test_gae_is_the_exponential_average_of_n_step_advantages():
    reward, value, next_value, terminated, truncated = episode(time=5, ends=False)
    gamma, lam, horizon = 0.9, 0.7, 5

    def n_step(n):
        return sum(gamma**k * reward[k] for k in range(n)) + gamma**n * next_value[n - 1] - value[0]

    average = (1 - lam) * sum(lam ** (n - 1) * n_step(n) for n in range(1, horizon))
    average = average + lam ** (horizon - 1) * n_step(horizon)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=gamma, gae_lambda=lam)
    torch.testing.assert_close(advantage[0], average, rtol=1e-13, atol=1e-13)


def test_gae_ends_cut_the_rollout_into_independent_pieces():
    reward, value, next_value, _, _ = episode(batch=())
    no = torch.zeros(7, dtype=torch.bool)
    cut = no.clone()
    cut[2] = True
    whole = gae(reward, value, next_value, no, cut, gamma=0.9, gae_lambda=0.8)
    pieces = [
        gae(reward[part], value[part], next_value[part], no[part], no[part], gamma=0.9, gae_lambda=0.8)
        for part in (slice(0, 3), slice(3, 7))
    ]
    torch.testing.assert_close(whole, torch.cat(pieces), rtol=0, atol=0)


def test_gae_ignores_the_value_behind_a_termination():
    advantage = gae(tensor(1), tensor(2), tensor(math.inf), flag(True), flag(False), gamma=0.9, gae_lambda=0.9)
    torch.testing.assert_close(advantage, tensor(-1))


def test_batch_columns_do_not_mix():
    data = episode()
    together = gae(*data, gamma=0.9, gae_lambda=0.8)
    for i in range(3):
        for j in range(2):
            alone = gae(*(x[:, i, j] for x in data), gamma=0.9, gae_lambda=0.8)
            torch.testing.assert_close(together[:, i, j], alone, rtol=0, atol=0)


def test_gae_under_vmap():
    data = episode()

    def one(*column):
        return gae(*column, gamma=0.9, gae_lambda=0.8)

    mapped = torch.func.vmap(one, in_dims=1, out_dims=1)(*data)
    torch.testing.assert_close(mapped, gae(*data, gamma=0.9, gae_lambda=0.8))


def test_gae_of_the_true_value_is_unbiased():
    """Constant reward 1 and no end: V = 1/(1 - gamma) everywhere, so every advantage is zero."""
    value = torch.full((50,), 100.0, dtype=F64)
    no = torch.zeros(50, dtype=torch.bool)
    advantage = gae(torch.ones(50, dtype=F64), value, value, no, no, gamma=0.99, gae_lambda=0.95)
    torch.testing.assert_close(advantage, torch.zeros_like(value), rtol=0, atol=1e-11)


def test_reinforce_loss_by_hand():
    logp = tensor(-1, -2).requires_grad_()
    loss = reinforce_loss(logp, tensor(3, -0.5))
    torch.testing.assert_close(loss, tensor(3, -1), rtol=0, atol=0)
    loss.sum().backward()
    torch.testing.assert_close(logp.grad, tensor(-3, 0.5), rtol=0, atol=0)


def test_reinforce_loss_gradient_is_the_policy_gradient_on_a_bandit():
    """Enumerated: the mean over actions drawn from pi has gradient -pi (r - E r)."""
    logits, reward = tensor(0.3, -1, 0.2).requires_grad_(), tensor(1, -2, 0.5)
    logp = logits.log_softmax(-1)
    prob = logp.detach().exp()
    (prob * reinforce_loss(logp, reward)).sum().backward()
    torch.testing.assert_close(logits.grad, -prob * (reward - (prob * reward).sum()), rtol=1e-13, atol=1e-13)


GAE_INPUTS = ("reward", "value", "next_value", "terminated", "truncated")


def broken(**changes):
    data = dict(zip(GAE_INPUTS, episode(), strict=True)) | {"gamma": 0.9, "gae_lambda": 0.8}
    return data | changes


def call_gae(data):
    numbers = {name: data[name] for name in ("gamma", "gae_lambda")}
    return gae(*(data[name] for name in GAE_INPUTS), **numbers)


@pytest.mark.parametrize("name", ["value", "next_value"])
def test_gae_refuses_shapes_that_would_broadcast(name):
    with refused("broadcast"):
        call_gae(broken(**{name: torch.zeros(7, 1, 2, dtype=F64)}))


@pytest.mark.parametrize("name", ["reward", "value", "next_value"])
def test_gae_refuses_gradient(name):
    with refused("detach"):
        call_gae(broken(**{name: torch.zeros(7, 3, 2, dtype=F64, requires_grad=True)}))


@pytest.mark.parametrize("name", ["reward", "value", "next_value"])
def test_gae_refuses_nan(name):
    with refused("NaN"):
        call_gae(broken(**{name: torch.full((7, 3, 2), math.nan, dtype=F64)}))


@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_gae_refuses_flags_that_are_numbers(name):
    with refused(r"\.bool\(\)"):
        call_gae(broken(**{name: torch.zeros(7, 3, 2, dtype=F64)}))


@pytest.mark.parametrize("name", ["terminated", "truncated"])
def test_gae_refuses_flags_of_another_shape(name):
    with refused("Reshape"):
        call_gae(broken(**{name: torch.zeros(7, 3, 1, dtype=torch.bool)}))


@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "0.9"])
def test_gae_refuses_numbers_outside(name, value):
    with refused():
        call_gae(broken(**{name: value}))


@pytest.mark.parametrize("gamma", [-0.1, 1.1, math.nan])
def test_discounted_returns_refuses_gamma_outside(gamma):
    with refused():
        discounted_returns(tensor(1), flag(False), gamma=gamma)


def test_discounted_returns_refuses_bad_tensors():
    with refused("NaN"):
        discounted_returns(tensor(math.nan), flag(False), gamma=0.9)
    with refused(r"\.bool\(\)"):
        discounted_returns(tensor(1), tensor(0), gamma=0.9)
    with refused("Reshape"):
        discounted_returns(tensor(1, 2), flag(False), gamma=0.9)
    with refused("unsqueeze"):
        discounted_returns(torch.tensor(1.0), torch.tensor(False), gamma=0.9)
    with refused("unsqueeze"):
        discounted_returns(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool), gamma=0.9)


def test_reinforce_loss_refuses():
    logp = tensor(-1, -2).requires_grad_()
    with refused("broadcast"):
        reinforce_loss(logp, tensor(1, 2)[:, None])
    with refused("detach"):
        reinforce_loss(logp, logp.exp())
    with refused("NaN"):
        reinforce_loss(logp, tensor(1, math.nan))
    with refused(r"\.to\(logp\)"):
        reinforce_loss(logp, torch.ones(2))
