// Draws explorables: figures with controls, made in explorable.py, which strips comments on lines of their own. Every
// frame is stored: this script holds no mathematics of the course, imports nothing and asks no server for anything.

const GAP = 65535;
const SIDE_BY_SIDE = 600;
const FASTEST = 90, WHOLE_RUN = 4000; // milliseconds: the shortest stay on a frame, and how long playing takes
const MARGIN = { left: 54, right: 12, top: 30, bottom: 44 }, BARE = { left: 4, right: 4, top: 28, bottom: 4 };
const MIDDLE = 'text-anchor="middle"';

const escape = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const STYLE = `:host{display:block;margin:6px 0}
*{box-sizing:border-box}
.card{display:flex;flex-direction:column;max-width:900px;padding:12px 14px 10px;border:1px solid var(--xp-edge);border-radius:6px;background:var(--xp-card);
color:var(--xp-ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.head,.keys,.numbers,.numbers>span,.row,.choices,.keys span,label{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px}
.title{flex:1;font-weight:650;font-size:15px}
.keys{gap:2px 16px;margin:4px 0 2px;font-size:13px}
.keys span{gap:6px}
svg{display:block;overflow:visible}
text{fill:var(--xp-ink);font-size:12px}
.name{font-weight:650;font-size:13px}
path{fill:none;stroke-linejoin:round}
b,.at{font-weight:650;font-variant-numeric:tabular-nums}
.numbers{gap:4px 22px;margin:6px 0 4px}
.numbers span,.note{color:var(--xp-soft)}
b{color:var(--xp-ink)}
.controls{border-top:1px solid var(--xp-grid);padding-top:6px}
.row{gap:2px 10px;min-height:38px}
.what{flex:0 0 130px}
.at{flex:0 0 62px;text-align:right}
[type=range]{flex:1 1 120px;height:34px;margin:0;accent-color:var(--xp-key);touch-action:pan-y;cursor:pointer}
.choices{flex:1 1 200px;gap:6px}
.choices label,button,.link{min-width:34px;min-height:34px;padding:2px 12px;border:1px solid var(--xp-edge);border-radius:17px;
background:none;color:inherit;font:inherit;cursor:pointer}
.choices input,.unseen{position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;opacity:0;white-space:nowrap}
.choices label:has(:checked){border-color:var(--xp-key);box-shadow:inset 0 0 0 1px var(--xp-key);font-weight:650}
button.copy,.note{font-size:13px}
button.play{padding:0 9px}
.play path{fill:currentColor}
button:hover,.choices label:hover{border-color:var(--xp-key)}
:focus-visible,.choices label:has(:focus-visible){outline:2px solid var(--xp-key);outline-offset:2px}
.link{width:100%;border-radius:4px}
.note{margin:6px 0 0}
.card:not(.narrow) :is(.controls,.note){order:1}
.narrow .numbers{font-size:13px}
[hidden]{display:none!important}
@media (max-width:520px){.what{flex:1 1 100%;margin-top:4px}}
@media print{.controls,button{display:none}}`;

const PLAY = '<svg width="14" height="14" aria-hidden="true"><path d="M2 1l11 6-11 6z"/></svg>';
const PAUSE = '<svg width="14" height="14" aria-hidden="true"><path d="M2 1h4v12H2zM8 1h4v12H8z"/></svg>';

function decoded(series) {
  const bytes = atob(series.codes), codes = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < codes.length; i++) codes[i] = bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8);
  return { ...series, codes };
}

// The row of an array on the grid that belongs to a frame. Axes on which nothing depends have length 1.
const row = (dims, at) => dims.reduce((index, size, k) => index * size + (size > 1 ? at[k] : 0), 0);

function places(series, at, [origin, scale, start]) {
  const first = row(series.dims, at) * series.n, found = [];
  for (let i = 0; i < series.n; i++) {
    const code = series.codes[first + i];
    found.push(code === GAP ? NaN : origin + (series.low + series.step * code - start) * scale);
  }
  return found;
}

const GLYPHS = {
  circle: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  up: (x, y, r) => `M${x} ${y - r}l${0.9 * r} ${1.6 * r}h${-1.8 * r}Z`,
  down: (x, y, r) => `M${x} ${y + r}l${0.9 * r} ${-1.6 * r}h${-1.8 * r}Z`,
  diamond: (x, y, r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}Z`,
};

function outline(curve, xs, ys) {
  let path = "", pen = "M";
  for (let i = 0; i < xs.length; i++) {
    const x = Math.round(100 * xs[i]) / 100, y = Math.round(100 * ys[i]) / 100;
    if (x !== x || y !== y) pen = "M";
    else if (curve.kind === "points") path += GLYPHS[curve.marker](x, y, curve.size);
    else (path += `${pen}${x} ${y}`), (pen = "L");
  }
  return path && curve.kind === "area" ? path + "Z" : path;
}

const color = (c) => `var(--xp-${c})`;
const drawn = (curve) =>
  curve.kind === "line"
    ? `style="stroke:${color(curve.c)}" stroke-width="${curve.width}" stroke-dasharray="${curve.dash || "none"}" opacity="${curve.alpha}"`
    : `style="fill:${color(curve.c)}" fill-opacity="${curve.alpha}"`;

function key(curve) {
  const shape =
    curve.kind === "points" ? GLYPHS[curve.marker](15, 7, 5) : curve.kind === "area" ? "M2 2h26v10h-26Z" : "M1 7H29";
  return `<span><svg width="30" height="14" aria-hidden="true"><path d="${shape}" ${drawn({ ...curve, alpha: curve.kind === "points" ? 1 : curve.alpha })}/></svg>${escape(curve.label)}</span>`;
}

// The panels' places for a width, and all that does not change from frame to frame: an SVG where they stand side by
// side, one for each panel where they do not.
function laid({ panels }, width) {
  const beside = width >= SIDE_BY_SIDE, shares = panels.reduce((sum, panel) => sum + panel.share, 0);
  const sizes = panels.map((panel) => {
    const wide = beside ? (width * panel.share) / shares : width, edge = panel.bare ? BARE : MARGIN;
    const [x0, x1] = panel.xlim, [y0, y1] = panel.ylim, room = wide - edge.left - edge.right;
    const h = panel.equal ? Math.min(430, (room * (y1 - y0)) / (x1 - x0)) : Math.max(190, Math.min(290, 0.72 * room));
    return { wide, edge, room, h, w: panel.equal ? (h * (x1 - x0)) / (y1 - y0) : room, tall: h + edge.top + edge.bottom };
  });
  const tallest = Math.max(...sizes.map((size) => size.tall));
  const parts = panels.map(() => ["", 0]);
  let left = 0;
  const scales = panels.map((panel, p) => {
    const { wide, edge, room, w } = sizes[p], h = beside && !panel.equal ? tallest - edge.top - edge.bottom : sizes[p].h;
    const [x0, x1] = panel.xlim, [y0, y1] = panel.ylim, x = left + edge.left + (room - w) / 2, y = edge.top;
    const across = (value) => ((value - x0) / (x1 - x0)) * w, down = (value) => ((y1 - value) / (y1 - y0)) * h;
    const words = (at, place, more, text) => `<text x="${at}" y="${place}" ${more}>${escape(text)}</text>`;
    const rule = (path, c) => `<path d="${path}" style="stroke:${c}"/>`;
    let inside = "", labels = words(left + edge.left, 16, 'class="name"', panel.title);
    if (!panel.bare) {
      for (const [value, text] of panel.xticks) {
        inside += rule(`M${across(value)} 0V${h}`, "var(--xp-grid)");
        labels += words(x + across(value), y + h + 16, MIDDLE, text);
      }
      for (const [value, text] of panel.yticks) {
        inside += rule(`M0 ${down(value)}H${w}`, "var(--xp-grid)");
        labels += words(x - 6, y + down(value) + 4, 'text-anchor="end"', text);
      }
      labels += words(x + w / 2, y + h + 34, MIDDLE, panel.xlabel) + rule(`M${x} ${y}V${y + h}H${x + w}`, "var(--xp-soft)");
      labels += words(0, 0, `${MIDDLE} transform="translate(${left + 12} ${y + h / 2}) rotate(-90)"`, panel.ylabel);
    }
    for (const { kind, at, c, anchor, lift, text } of panel.marks) {
      if (kind === "hline") inside += rule(`M0 ${down(at)}H${w}`, color(c));
      if (kind === "vline") inside += rule(`M${across(at)} 0V${h}`, color(c));
      if (kind === "text") labels += words(x + across(at[0]), y + down(at[1]) + 4 - lift, `text-anchor="${anchor}" style="fill:${color(c)}"`, text);
    }
    panel.curves.forEach((curve, c) => (inside += `<path data-curve="${p}.${c}" ${drawn(curve)}/>`));
    // An inner SVG cuts off what leaves the panel.
    const body = `<svg x="${x}" y="${y}" width="${w}" height="${h}" style="overflow:hidden">${inside}</svg>${labels}`;
    parts[beside ? 0 : p] = [beside ? parts[0][0] + body : body, beside ? tallest : sizes[p].tall + 8];
    if (beside) left += wide;
    return { x: [0, w / (x1 - x0), x0], y: [h, -h / (y1 - y0), y0] };
  });
  return { parts, scales, beside };
}

// The picture of the default frame stands in the output before; in the notebook of another cell nothing is touched.
function hidePicture(host) {
  for (let node = host, up = 0; node && up < 5 && !node.matches(".cell,.jp-Cell,body,main,article,section"); up++) {
    const before = node.previousElementSibling;
    if (before && !before.querySelector("[data-explorable]")) {
      const picture = before.matches("img") ? before : before.querySelector("img");
      if (picture) before.style.display = "none";
      if (picture) return;
    }
    node = node.parentElement;
  }
}

function mount(host) {
  const spec = JSON.parse(host.querySelector("script[type='application/json']").textContent);
  const { controls, panels, readouts } = spec;
  for (const panel of panels) for (const curve of panel.curves) (curve.x = decoded(curve.x)), (curve.y = decoded(curve.y));
  const at = controls.map((control) => control.start);
  const root = host.attachShadow({ mode: "open" });
  const named = new Map(panels.flatMap((panel) => panel.curves).filter((curve) => curve.label).map((curve) => [curve.label, curve]));

  const field = (control, k) =>
    control.kind === "slider"
      ? `<div class="row"><label class="what" for="c${k}">${escape(control.label)}</label>${
          control.play ? `<button class="play" data-play="${k}"></button>` : ""
        }<input type="range" id="c${k}" min="0" max="${control.texts.length - 1}" step="1"><span class="at" aria-hidden="true"></span></div>`
      : `<div class="row" role="radiogroup" aria-labelledby="c${k}"><span class="what" id="c${k}">${escape(control.label)}</span><span class="choices">${control.texts
          .map((text, i) => `<label><input type="radio" name="c${k}" value="${i}">${escape(text)}</label>`)
          .join("")}</span></div>`;
  root.innerHTML = `<style>${STYLE}</style><div class="card"><div class="head"><span class="title">${escape(spec.title)}</span>
<button class="copy">Copy link</button></div><input class="link" aria-label="Link to this view" readonly hidden>
<div class="keys">${[...named.values()].map(key).join("")}</div><svg class="figure" role="img"></svg><div class="controls">${controls.map(field).join("")}</div><div class="numbers"><span>${
    readouts.filter((r) => r.shown).map((r, i) => `${i && !r.tied ? "</span><span>" : ""}<span>${escape(r.label)} <b></b></span>`).join("")
  }</span></div>
${panels.slice(1).map(() => '<svg class="more" aria-hidden="true"></svg>').join("")}${spec.note ? `<p class="note">${escape(spec.note)}</p>` : ""}
<p class="unseen" role="status" aria-live="polite"></p></div>`;

  const find = (what) => root.querySelector(what), all = (what) => [...root.querySelectorAll(what)];
  const figure = find("svg.figure"), sheets = [figure, ...all(".more")], numbers = all(".numbers b"), status = find("[role=status]"), shown = find(".link");
  const rows = all(".row"), play = all("[data-play]");
  let paths = [], scales = [], width = 0, waiting = 0, speaking = 0, timer = 0, touched = false;

  function layout() {
    const now = Math.floor(find(".keys").clientWidth);
    if (!now || now === width) return;
    width = now;
    const plan = laid(spec, width);
    scales = plan.scales;
    find(".card").classList.toggle("narrow", !plan.beside);
    sheets.forEach((sheet, p) => {
      const [body, height] = plan.parts[p];
      sheet.setAttribute("width", width);
      sheet.setAttribute("height", height);
      sheet.innerHTML = body;
    });
    paths = panels.map((panel, p) => panel.curves.map((_, c) => find(`[data-curve="${p}.${c}"]`)));
    draw();
  }

  function draw() {
    waiting = 0;
    const words = {};
    controls.forEach((control, k) => {
      const text = (words[control.name] = control.texts[at[k]]), slider = rows[k].querySelector("[type=range]");
      if (slider) {
        if (+slider.value !== at[k]) slider.value = at[k];
        slider.setAttribute("aria-valuetext", text);
        rows[k].querySelector(".at").textContent = text;
      } else rows[k].querySelectorAll("input")[at[k]].checked = true;
    });
    readouts.forEach((readout) => (words[readout.name] = readout.texts[row(readout.dims, at)]));
    readouts.filter((r) => r.shown).forEach((readout, i) => (numbers[i].textContent = words[readout.name]));
    paths.forEach((curves, p) =>
      curves.forEach((path, c) => {
        const curve = panels[p].curves[c];
        path.setAttribute("d", outline(curve, places(curve.x, at, scales[p].x), places(curve.y, at, scales[p].y)));
      }),
    );
    const alt = spec.alt.replace(/\{(\w+)\}/g, (_, name) => words[name]);
    figure.setAttribute("aria-label", alt);
    // A screen reader hears where the reader has come to rest, not every frame on the way.
    clearTimeout(speaking);
    if (touched) speaking = setTimeout(() => timer || (status.textContent = alt), 600);
  }

  const schedule = () => (waiting ||= requestAnimationFrame(draw));

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.forEach((button) => {
      button.innerHTML = PLAY;
      button.setAttribute("aria-label", `Play ${controls[button.dataset.play].label}`);
    });
    schedule();
  }

  function start(button) {
    const k = +button.dataset.play, last = controls[k].texts.length - 1;
    if (at[k] === last) at[k] = 0;
    schedule();
    button.innerHTML = PAUSE;
    button.setAttribute("aria-label", `Pause ${controls[k].label}`);
    timer = setInterval(() => {
      if (!host.isConnected || at[k] >= last) return stop();
      at[k] += 1;
      schedule();
    }, Math.max(FASTEST, WHOLE_RUN / last));
  }

  for (const kind of ["input", "click"]) root.addEventListener(kind, () => (touched = true), true);
  controls.forEach((_, k) =>
    rows[k].addEventListener("input", (event) => {
      if (timer) stop();
      at[k] = +event.target.value;
      schedule();
    }),
  );
  play.forEach((button) => button.addEventListener("click", () => (timer ? stop() : start(button))));

  function follow() {
    const [id, query] = location.hash.slice(1).split("?");
    if (id !== spec.id) return false;
    const asked = new URLSearchParams(query);
    controls.forEach((control, k) => {
      const index = control.keys.indexOf(asked.get(control.name));
      if (index >= 0) at[k] = index;
    });
    stop();
    return true;
  }

  find(".copy").addEventListener("click", async (event) => {
    const button = event.target, inLab = "jpThemeLight" in document.body.dataset;
    const query = controls.map((control, k) => `${control.name}=${encodeURIComponent(control.keys[at[k]])}`).join("&");
    const address = (inLab && spec.page) || location.href.replace(/[?#].*$/, "");
    const link = `${address}#${spec.id}?${query}`;
    try {
      await navigator.clipboard.writeText(link);
      shown.hidden = true;
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy link"), 1500);
    } catch {
      shown.hidden = false;
      shown.value = link;
      shown.focus();
      shown.select();
    }
  });

  // Colours reach the figure as variables of the page, so that a change of theme repaints without a line of code.
  if (!document.querySelector("style[data-explorable-theme]")) {
    const style = document.createElement("style");
    style.dataset.explorableTheme = "";
    style.textContent = spec.theme;
    document.head.append(style);
  }
  stop();
  const asked = follow();
  layout();
  new ResizeObserver(layout).observe(find(".card"));
  window.addEventListener("hashchange", follow);
  hidePicture(host);
  if (asked && document.querySelector(`[data-explorable="${spec.id}"]`) === host) host.scrollIntoView({ block: "nearest" });
}

for (const host of document.querySelectorAll("[data-explorable]")) {
  if (host.shadowRoot) continue;
  try {
    mount(host);
  } catch (error) {
    // The picture before it is still there.
    if (host.shadowRoot) host.shadowRoot.innerHTML = "";
    console.error("An explorable could not be shown:", error);
  }
}
