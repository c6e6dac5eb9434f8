// Sets every formula of the page with KaTeX. One it cannot read stays as TeX, in red.
for (const place of document.querySelectorAll(".math")) {
  const displayMode = place.parentElement.classList.contains("equation");
  katex.render(place.textContent, place, { displayMode, throwOnError: false, strict: "ignore" });
}

// A long piece scrolls where the page is narrow: by keyboard as well.
function reachable() {
  for (const piece of document.querySelectorAll(".equation > .math")) {
    if (piece.scrollWidth > piece.clientWidth) piece.tabIndex = 0;
    else piece.removeAttribute("tabindex");
  }
}
for (const kind of ["load", "resize"]) window.addEventListener(kind, reachable);
