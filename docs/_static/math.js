// Sets every formula of the page with KaTeX. One it cannot read stays as TeX, in red.
for (const place of document.querySelectorAll(".math")) {
  const displayMode = place.parentElement.classList.contains("equation");
  katex.render(place.textContent, place, { displayMode, throwOnError: false, strict: "ignore" });
}
