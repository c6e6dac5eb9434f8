"""The site in a browser, from the built folder, with no network: formulas, search, the dark theme, narrow windows."""

import pytest
from built_site import built
from chapters import CHAPTERS

FORMULAS = [page for chapter in CHAPTERS.values() for page in chapter.pages if page.startswith(("notebooks", "claims"))]
PAGES = ["index.html", *(page for chapter in CHAPTERS.values() for page in chapter.pages), "claims/index.html"]
PAGES += ["exercises.html", "museum.html", "teaching.html", "bibliography.html", "api/lesson.html"]
_COLOUR = "() => getComputedStyle(document.body).backgroundColor"


def opened(page, address, name):
    page.goto(f"{address}/{name}", wait_until="load")
    page.wait_for_load_state("networkidle")
    return page


@pytest.mark.parametrize("name", [*PAGES, "search.html?q=clip"])
def test_a_page_opens_without_a_complaint(page, address, name):
    opened(page, address, name)
    assert page.locator("h1:visible").count() == 1
    assert page.problems == []


def test_a_page_that_asks_for_something_else_is_found(page, served, tmp_path):
    (tmp_path / "bad.html").write_text('<h1>x</h1><script src="https://cdn.example/x.js"></script><img src="gone.png">')
    opened(page, served(tmp_path), "bad.html")
    said = "\n".join(page.problems)
    assert "outgoing request: https://cdn.example/x.js" in said and "gone.png" in said


def test_every_formula_is_set(page, address):
    folder, _ = built()
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.html"))]
    names = [name for name in names if 'class="math' in (folder / name).read_text(encoding="utf-8")]
    assert set(FORMULAS) <= set(names)
    for name in names:
        opened(page, address, name)
        drawn = page.locator(".math > .katex, .math > .katex-display").count()
        assert page.locator(".math").count() == drawn > 0, name
        assert page.locator(".katex-error").all_inner_texts() == [], name
        assert page.evaluate("() => document.fonts.check('16px KaTeX_Main') && document.fonts.check('16px KaTeX_Math')")
        if name in FORMULAS:
            numbers = page.locator(".equation > .number")
            assert numbers.count() >= 10 and all(number.is_visible() for number in numbers.all())


def test_a_broken_formula_is_found(page, address):
    opened(page, address, FORMULAS[0])
    page.evaluate("() => katex.render('\\\\nosuch{', document.querySelector('.math'), { throwOnError: false })")
    assert page.locator(".katex-error").count() == 1


@pytest.mark.parametrize(
    ("word", "stem"),
    [("clip", "02_ratio_clipping"), ("dropout", "03_surrogate_variance")],
)
def test_the_search_finds_a_word_where_it_stands(page, address, word, stem):
    opened(page, address, f"search.html?q={word}")
    # Results come in one after the other.
    page.locator(f"#search-results li a[href*='notebooks/{stem}']").first.wait_for()
    page.locator("#search-results li").nth(2).wait_for()
    assert page.problems == []


def test_the_theme_can_be_turned_dark(page, address):
    opened(page, address, FORMULAS[0])
    seen = {}
    for mode in ("light", "dark"):
        page.locator(".theme-switch-button:visible").first.click()
        page.locator(f".theme-change-button[data-mode={mode}]:visible").first.click()
        assert page.evaluate("() => document.documentElement.dataset.theme") == mode
        seen[mode] = page.evaluate(_COLOUR)
    assert seen["light"] != seen["dark"]
    assert page.problems == []


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_window_does_not_scroll_sideways(page, address, name):
    page.set_viewport_size({"width": 400, "height": 800})
    opened(page, address, name)
    assert page.evaluate("() => document.scrollingElement.scrollWidth") <= 400
    assert page.evaluate("() => { scrollTo(999, 0); return scrollX; }") == 0


def test_on_a_phone_figures_and_tables_are_large_enough_and_scroll_by_keyboard(page, address):
    page.set_viewport_size({"width": 390, "height": 800})
    opened(page, address, FORMULAS[0])
    page.wait_for_timeout(800)
    boxes = page.locator(".cell_output .picture:visible", has=page.locator("img:visible"))
    assert boxes.count() >= 8
    for box in boxes.all():
        assert box.evaluate("box => [box.firstElementChild.clientWidth, box.clientWidth < 390, box.tabIndex]") == [
            640, True, 0
        ]  # fmt: skip
    box = boxes.first
    box.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert box.evaluate("box => box.scrollLeft") > 0
    cells = page.locator(".cell_output table.table td")
    assert cells.count() > 50
    assert {cell.evaluate("x => getComputedStyle(x).whiteSpace") for cell in cells.all()[:10]} == {"nowrap"}
    assert not page.locator("#pst-back-to-top").is_visible()


def test_the_first_column_of_the_exercises_has_room_on_a_phone(page, address):
    page.set_viewport_size({"width": 390, "height": 800})
    opened(page, address, "exercises.html")
    assert page.locator("table td").first.bounding_box()["width"] >= 9 * 16


def test_without_scripts_a_line_says_why_formulas_are_tex(new_page, address):
    line = "Formulas are set by JavaScript; without it you see their TeX."
    with new_page(java_script_enabled=False) as page:
        page.goto(f"{address}/{FORMULAS[0]}")
        assert page.locator("noscript p:visible").all_inner_texts() == [line]
        page.goto(f"{address}/index.html")
        assert page.locator("noscript p").count() == 0
    with new_page() as page:
        opened(page, address, FORMULAS[0])
        assert line not in page.locator("body").inner_text()


@pytest.mark.parametrize(
    ("chapter", "target"),
    [
        ("ratio_clipping", "eq-2.13"),
        ("ratio_clipping", "exercise-ppo-clip"),
        ("surrogate_variance", "eq-3.13"),
        ("surrogate_variance", "exercise-sign-dropout"),
    ],
)
def test_an_address_leads_to_its_place(page, address, chapter, target):
    opened(page, address, f"{CHAPTERS[chapter].page}#{target}")
    page.wait_for_timeout(300)
    top = page.evaluate("id => document.getElementById(id).getBoundingClientRect().top", target)
    assert 0 <= top < 700
