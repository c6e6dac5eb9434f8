"""Claims: the machinery on synthetic equations, then every claim that the chapters make."""

import re

import pytest
import torch

import pocourse.diffusion_dpo.claims
import pocourse.ratio_clipping.claims  # what is imported registers its claims
import pocourse.surrogate_variance.claims
import pocourse.zeroth_order.claims  # noqa: F401
from pocourse.lesson import claims
from pocourse.lesson.claims import ClaimFailed, check, claim, registry

SHIPPED = registry()
NUMBERS = {"ratio_clipping": 2, "surrogate_variance": 3, "zeroth_order": 4, "diffusion_dpo": 5}
every_claim = pytest.mark.parametrize("id", SHIPPED)


@pytest.fixture(autouse=True)
def clean_registry(monkeypatch):
    """Synthetic claims live for one test."""
    monkeypatch.setattr(claims, "_registry", dict(SHIPPED))


def make(kind, sides, *, id="test.synthetic", draws=50, tolerance=1e-12, equation="9.1", **settings):
    if kind == "bound":
        settings.setdefault("attained", 0.1)
    if kind == "order":
        settings.setdefault("rate", 2)
    settings = {"tex": "x", "source": "ours", **settings}
    return claim(id, equation=equation, kind=kind, draws=draws, tolerance=tolerance, **settings)(sides)


def full(draw, value):
    return torch.full((draw.count,), float(value), dtype=torch.float64)


def vary(draw, low, high):
    return draw.uniform(low=low, high=high)


STEPS = torch.tensor([1e-1, 1e-2, 1e-3], dtype=torch.float64)

HOLDS = {
    "identity": ("identity", lambda d: (full(d, 2), full(d, 2 + 1e-13)), {}),
    "relative identity": ("identity", lambda d: (full(d, 1e6), full(d, 1e6 + 1e-8)), {}),
    "bound": ("bound", lambda d: (vary(d, 0, 1), full(d, 1)), {}),
    "negative bound": ("bound", lambda d: (full(d, -2), vary(d, -2, -1)), {}),
    "estimate": ("estimate", lambda d: (d.normal(3) + 5, full(d, 5)[:3]), {"tolerance": 4, "draws": 1000}),
    "order": ("order", lambda d: (STEPS, 7 * STEPS**2), {"tolerance": 0.1}),
    "orders": ("order", lambda d: (STEPS[:, None].expand(3, 2), STEPS[:, None] ** 2 * STEPS[:2]), {"tolerance": 0.1}),
    "witness": ("witness", lambda d: (full(d, 1 + 1e-9), full(d, 1)), {}),
}
FAILS = {
    "identity": ("identity", lambda d: (full(d, 2), full(d, 2.1)), {}),
    "identity on all draws but one": ("identity", lambda d: (full(d, 0), full(d, 0).index_fill(0, LAST, 1)), {}),
    "identity with NaN": ("identity", lambda d: (full(d, 2), full(d, float("nan"))), {}),
    "identity with infinities": ("identity", lambda d: (full(d, float("inf")), full(d, float("inf"))), {}),
    "violated bound": ("bound", lambda d: (vary(d, 0, 1.1), full(d, 1)), {}),
    "bound that nothing reaches": ("bound", lambda d: (vary(d, 0, 0.5), full(d, 1)), {}),
    "bound reached by zeros only": ("bound", lambda d: (full(d, 0), full(d, 1).index_fill(0, LAST, 0)), {}),
    "bound with NaN": ("bound", lambda d: (full(d, float("nan")), full(d, 1)), {}),
    "estimate": ("estimate", lambda d: (d.normal() + 5, torch.tensor(4.0)), {"tolerance": 4, "draws": 1000}),
    "order too low": ("order", lambda d: (STEPS, STEPS), {"tolerance": 0.1}),
    "one order of two too low": (
        "order",
        lambda d: (STEPS[:, None].expand(3, 2), torch.stack((STEPS**2, STEPS), -1)),
        {"tolerance": 0.1},
    ),
    "witness that only reaches equality": ("witness", lambda d: (full(d, 1), full(d, 1)), {}),
    "witness that fails once": ("witness", lambda d: (full(d, 2).index_fill(0, LAST, 1), full(d, 1)), {}),
    "witness with NaN": ("witness", lambda d: (full(d, float("nan")), full(d, 1)), {}),
}
LAST = torch.tensor([49])


@pytest.mark.parametrize("case", HOLDS)
def test_a_true_claim_holds(case):
    kind, sides, settings = HOLDS[case]
    found = make(kind, sides, **settings)
    assert found.verdict()["holds"]


@pytest.mark.parametrize("case", FAILS)
def test_a_false_claim_fails(case):
    kind, sides, settings = FAILS[case]
    found = make(kind, sides, **settings)
    found.twin("a_twin", "It is wrong as well.")(lambda d: (full(d, 1), full(d, 3)))
    assert not found.verdict()["holds"]
    with pytest.raises(ClaimFailed, match=re.escape("(9.1) test.synthetic does not hold")):
        check("test.synthetic")


def test_a_bound_says_how_tight_it_is():
    verdict = make("bound", lambda d: (full(d, 3).index_fill(0, LAST, 3.9), full(d, 4))).verdict()
    assert verdict["median_slack"] == pytest.approx(1) and verdict["closest"] == pytest.approx(0.1 / 4)


def test_a_twin_that_passes_is_reported():
    found = make("identity", lambda d: (full(d, 2), full(d, 2)))
    found.twin("also_right", "It is not.")(lambda d: (full(d, 3), full(d, 3)))
    found.twin("wrong", "It is.")(lambda d: (full(d, 3), full(d, 4)))
    assert found.verdict()["twins_refuted"] == {"also_right": False, "wrong": True}
    with pytest.raises(ClaimFailed, match="not refuted, though wrong: also_right"):
        check("test.synthetic")


def test_a_claim_without_a_twin_is_reported():
    make("identity", lambda d: (full(d, 2), full(d, 2)))
    with pytest.raises(ClaimFailed, match="no twin at all"):
        check("test.synthetic")


def test_a_loose_twin_of_a_bound_is_not_refuted():
    found = make("bound", lambda d: (full(d, 1), full(d, 1)))
    found.twin("twice_as_large", "It is loose, not wrong.")(lambda d: (full(d, 1), full(d, 2)))
    assert found.verdict()["twins_refuted"] == {"twice_as_large": False}


def test_a_twin_may_change_arguments_of_the_claim():
    def sides(draw, factor=2.0):
        return full(draw, 2), full(draw, factor)

    found = make("identity", sides)
    found.twin("factor_dropped", "The factor belongs there.", factor=1.0)
    assert found.verdict()["twins_refuted"] == {"factor_dropped": True}


def test_check_prints_one_line(capsys):
    found = make("identity", lambda d: (full(d, 2), full(d, 2)))
    found.twin("sign_dropped", "The sign matters.")(lambda d: (full(d, 2), full(d, -2)))
    check("test.synthetic")
    assert capsys.readouterr().out == "(9.1) holds: both sides equal on 50 draws to 1e-12. Refuted: sign dropped.\n"


def test_draws_depend_on_the_seed_alone():
    seen = []
    found = make("identity", lambda d: (seen.append(d.normal(2)), full(d, 0), full(d, 0))[1:])
    for seed in (0, 0, 1):
        found.outcome(seed=seed)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert seen[0].shape == (50, 2) and seen[0].dtype == torch.float64


def test_sides_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape from test.synthetic; got \[50\] and \[50, 1\]"):
        make("identity", lambda d: (full(d, 2), full(d, 2)[:, None])).outcome()


def test_bad_registrations_are_refused():
    def sides(draw):
        return full(draw, 1), full(draw, 1)

    make("identity", sides)
    with pytest.raises(ValueError, match=r"a new id; got 'test.synthetic'"):
        make("identity", sides)
    with pytest.raises(ValueError, match="kind as one of"):
        make("equation", sides, id="test.other")
    with pytest.raises(ValueError, match="attained= with every bound"):
        make("bound", sides, id="test.other", attained=None)
    with pytest.raises(ValueError, match="rate= with every order"):
        make("identity", sides, id="test.other", rate=2)


def test_an_unknown_id_is_refused():
    with pytest.raises(ValueError, match=r"(?s)expected the id.*got 'ratio_clipping.tpyo'.*known are.*pinsker"):
        check("ratio_clipping.tpyo")


# --- the claims of the chapters


@every_claim
def test_the_claim_holds_and_its_twins_do_not(id):
    for seed in range(3):
        verdict = SHIPPED[id].verdict(seed)
        assert verdict["holds"], (seed, verdict)
        assert verdict["twins_refuted"] and all(verdict["twins_refuted"].values()), (seed, verdict["twins_refuted"])


@every_claim
def test_its_line_is_the_same_each_time_and_shows_no_raw_error(id, capsys):
    check(id)
    first = capsys.readouterr().out
    check(id)
    assert capsys.readouterr().out == first
    assert first.count("\n") == 1 and first.startswith(f"({SHIPPED[id].equation}) holds: ")
    assert len(first) < 250
    # Tolerances are round; a raw error would have many digits.
    assert not re.search(r"\d\.\d{4,}|e-1[56]", first)


@every_claim
def test_it_is_written_out(id):
    found = SHIPPED[id]
    assert found.chapter in NUMBERS
    assert "\\tag" not in found.tex and found.tex.count("{") == found.tex.count("}")
    assert found.tex.count(r"\left") - found.tex.count(r"\leftarrow") == found.tex.count(r"\right") - found.tex.count(
        r"\rightarrow"
    )
    assert not any(ord(letter) < 32 for letter in found.tex), "an escape that r'' would have kept"
    assert found.source
    names = [twin.name for twin in found.twins]
    assert len(names) == len(set(names)) >= 1
    for twin in found.twins:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", twin.name)
        assert twin.reason[0].isupper() and twin.reason.endswith(".")


@every_claim
def test_no_claim_hangs_on_the_seed_it_is_printed_with(id):
    for seed in range(3, 7):
        verdict = SHIPPED[id].verdict(seed)
        assert verdict["holds"] and all(verdict["twins_refuted"].values()), (seed, verdict)


@pytest.mark.parametrize("chapter", NUMBERS)
def test_equations_of_a_chapter_are_numbered_without_gaps(chapter):
    numbers = [found.equation for found in SHIPPED.values() if found.chapter == chapter]
    assert numbers == [f"{NUMBERS[chapter]}.{index}" for index in range(1, len(numbers) + 1)]
    assert len(numbers) >= 14


def test_all_kinds_of_claims_are_used():
    assert {found.kind for found in SHIPPED.values()} == set(claims.KINDS)


# What MathJax and KaTeX both know, as far as the course uses it. A word stuck to a command is none of these.
MACROS = set(
    """alpha arg bar begin beta Big big bigg cases cdot chi clip Delta delta dots ell end epsilon eta exp frac gamma ge
    geq hat in infty int kappa lambda langle le left leq log Longrightarrow mathbb mathcal mathrm max mid min mu
    nabla ne nu Omega operatorname partial Phi pi pm propto qquad quad rangle rho right sigma sim sqrt sum sup
    text tfrac theta to top xi""".split()
)


@pytest.mark.parametrize("found", claims.registry().values(), ids=lambda found: found.id)
def test_the_tex_is_well_formed(found):
    unknown = set(re.findall(r"\\([A-Za-z]+)", found.tex)) - MACROS
    assert not unknown
    assert found.tex.count("{") == found.tex.count("}")
    assert len(re.findall(r"\\left\b", found.tex)) == len(re.findall(r"\\right\b", found.tex))
    assert found.tex.count("\\begin") == found.tex.count("\\end")
    assert "tag" not in found.tex
