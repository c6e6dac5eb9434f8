"""A browser for the tests: pages that report what goes wrong on them, a JupyterLab, folders served on loopback.

The offline guard sees Python's sockets and not the browser's. So the browser finds no name but this machine's, and
every page notes whatever asks for another address.
"""

import asyncio
import contextlib
import functools
import http.server
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from built_site import built

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
]
REQUIRED = "POCOURSE_REQUIRE_BROWSER"


def pytest_collection_modifyitems(items):
    """Mark what lies in this folder, and put it last: Playwright leaves an event loop over which others stumble."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.browser)
        item.add_marker(pytest.mark.slow)
    items[:] = [item for item in items if HERE not in item.path.parents] + mine


# --- the browser ----------------------------------------------------------------------------------


def found():
    """Where Chromium is: on the path, or where Playwright installs its own."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    home = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    return next((str(path) for path in sorted(home.glob("chromium-*/chrome-linux*/chrome"))), None)


def absent(why, environment=os.environ):
    """Skip, or fail where a browser is required, with the reason and the remedy."""
    said = f"{why} Install Chromium (`apt-get install chromium`, or `python -m playwright install chromium`)."
    if environment.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but: {said}", pytrace=False)
    pytest.skip(said)


@pytest.fixture(scope="session")
def chromium():
    """One Chromium for all tests of this folder."""
    path = found()
    if path is None:
        absent("The browser tests were left out: there is no Chromium here.")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        absent("The browser tests were left out: Playwright is not installed; `pip install 'pocourse[dev]'` has it.")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            absent(f"The browser tests were left out: {path} does not start: {str(error).splitlines()[0]}.")
        yield browser
        browser.close()
    asyncio._set_running_loop(None)


def outside(url):
    """Whether a request for this address leaves the machine."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss"):
        return False
    host = parts.hostname or ""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def watch(page):
    """Collect in ``page.problems`` what goes wrong: console and page errors, failed, refused and outgoing requests."""
    page.problems = []

    def note(kind, text):
        page.problems.append(f"{kind}: {text}")

    def asked(kind, url):
        if outside(url):
            note(f"outgoing {kind}", url)

    page.on("console", lambda message: note("console", message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: note("page error", str(error)))
    page.on("request", lambda request: asked("request", request.url))
    page.on("websocket", lambda opened: asked("websocket", opened.url))
    page.on("requestfailed", lambda request: note("failed request", f"{request.url}: {request.failure}"))
    page.on("response", lambda r: note("refused request", f"{r.status} {r.url}") if r.status >= 400 else None)
    return page


@contextlib.contextmanager
def fresh_page(browser, **options):
    """A page in a context of its own, watched."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(30_000)
    try:
        yield watch(context.new_page())
    finally:
        context.close()


@pytest.fixture
def page(chromium):
    """A fresh page that collects what goes wrong on it in ``page.problems``."""
    with fresh_page(chromium) as opened:
        yield opened


@pytest.fixture(scope="session")
def new_page(chromium):
    """``with new_page() as page``: a fresh page for longer than one test; takes the options of a browser context."""
    return functools.partial(fresh_page, chromium)


# --- a folder, served -----------------------------------------------------------------------------


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): ...

    def do_GET(self):
        if self.path == "/favicon.ico":  # what browsers ask for unasked
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture(scope="session")
def served():
    """``served(folder)`` -> its address, without a slash at the end."""
    servers = []

    def serve(folder):
        handler = functools.partial(_Silent, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def address(served):
    """The built site's address."""
    folder, done = built()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return served(folder)


# --- JupyterLab -----------------------------------------------------------------------------------

_READY = """async name => {
  const app = window.jupyterapp;
  await app.restored;
  let panel = null;
  for (const widget of app.shell.widgets('main')) {
    if (widget.context && widget.context.path === name) { panel = widget; }
  }
  if (!panel) { return false; }
  await panel.context.ready;
  await panel.sessionContext.ready;
  const session = panel.sessionContext.session;
  if (!session || !session.kernel) { return false; }
  await session.kernel.info;
  app.shell.activateById(panel.id);
  window.coursePanel = panel;
  return true;
}"""
_CELLS = """() => [...window.coursePanel.content.widgets].map((cell, index) => ({
  index, type: cell.model.type, source: cell.model.sharedModel.getSource(),
  count: cell.model.executionCount ?? null,
  outputs: cell.model.type === 'code' ? cell.model.outputs.toJSON() : [],
}))"""


class Lab:
    """A JupyterLab on loopback on a copy of the notebooks, with folders of its own for everything it writes."""

    def __init__(self, folder):
        self.folder = folder
        self.notebooks = folder / "notebooks"
        shutil.copytree(ROOT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = self._start()

    def _start(self):
        own = {
            "HOME": "home",
            "POCOURSE_HOME": "reader",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        for name in own.values():
            (self.folder / name).mkdir()
        # The one question that JupyterLab would ask: whether to fetch news.
        asked = self.folder / "settings" / "@jupyterlab" / "apputils-extension"
        asked.mkdir(parents=True)
        (asked / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        environment = {**os.environ, **{key: str(self.folder / name) for key, name in own.items()}}
        # One thread: two that wait for each other on a core that something else uses are many times slower.
        environment |= {"POCOURSE_PROFILE": "ci", "OMP_NUM_THREADS": "1"}
        environment.pop("MPLBACKEND", None)
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"]
        command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.notebooks}", "--IdentityProvider.token="]
        command += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
        command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        command += ["--LabApp.extension_manager=readonly"]
        command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        self.log = self.folder / "lab.log"
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def wait_started(self, seconds=90):
        """Wait until the server answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._server.poll() is not None:
                break
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/api", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.3)
        pytest.fail(f"JupyterLab did not start:\n{self.log.read_text(errors='replace')[-3000:]}", pytrace=False)

    def stop(self):
        """End the server, and with it its kernels."""
        if self._server.poll() is None:
            self._server.send_signal(signal.SIGTERM)
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()

    def open(self, page, name):
        """Open a notebook, and wait until its kernel answers."""
        page.goto(f"{self.url}/lab/tree/{name}?reset", wait_until="load")
        page.wait_for_function("() => window.jupyterapp !== undefined", timeout=90_000)
        until = time.monotonic() + 90
        while not page.evaluate(_READY, name):
            assert time.monotonic() < until, f"{name} did not open, or has no kernel"
            page.wait_for_timeout(200)

    def run_all(self, page, seconds=600):
        """Run all cells through the application's command (a click on the menu may lose the run), and wait for them."""
        page.evaluate(
            "() => { window.courseRun = 'running'; window.jupyterapp.commands.execute('notebook:run-all-cells')"
            ".then(() => { window.courseRun = 'done'; }, error => { window.courseRun = String(error); }); }"
        )
        page.wait_for_function("() => window.courseRun !== 'running'", timeout=1000 * seconds)
        assert page.evaluate("() => window.courseRun") == "done"
        self.wait_idle(page)

    def wait_idle(self, page, seconds=120):
        """Wait until the kernel has been idle for a moment."""
        idle = "() => window.coursePanel.sessionContext.session.kernel.status === 'idle'"
        for _ in range(2):
            page.wait_for_function(idle, timeout=1000 * seconds)
            page.wait_for_timeout(150)

    def cells(self, page):
        """All cells as dicts: index, type, source, count, outputs."""
        return page.evaluate(_CELLS)

    def index(self, page, words, kind="code"):
        """The number of the one cell of a kind whose source holds these words; None where there is none."""
        hits = [cell["index"] for cell in self.cells(page) if cell["type"] == kind and words in cell["source"]]
        assert len(hits) <= 1, f"{words!r} stands in the cells {hits}"
        return hits[0] if hits else None

    def cell(self, page, words, kind="code"):
        """That cell, brought into view, as a locator."""
        index = self.index(page, words, kind)
        assert index is not None, f"no {kind} cell holds {words!r}"
        return self.show(page, index)

    def show(self, page, index):
        """Bring a cell into view by its number, as a locator."""
        page.evaluate(
            "async index => { const book = window.coursePanel.content; book.activeCellIndex = index;"
            " book.mode = 'command'; await book.scrollToItem(index, 'start'); }",
            index,
        )
        located = page.locator(f'.jp-Notebook [data-windowed-list-index="{index}"]')
        located.wait_for(state="visible")
        return located

    def write(self, page, words, source):
        """Type another source into a cell."""
        editor = self.cell(page, words).locator(".cm-content")
        editor.click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(source)

    def run_cell(self, page, words, seconds=120):
        """Run one cell, and wait for it."""
        self.cell(page, words)
        page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-cell'); }")
        self.wait_idle(page, seconds)
        return self.cell(page, words)


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """JupyterLab with profile ci, one for all tests."""
    running = Lab(tmp_path_factory.mktemp("lab"))
    try:
        running.wait_started()
        yield running
    finally:
        running.stop()


# --- how fluently a figure is drawn ----------------------------------------------------------------

_GAPS = """host => {
  window.gaps = [];
  let drawn = false, last = performance.now();
  new MutationObserver(() => { drawn = true; })
    .observe(host.shadowRoot.querySelector('svg.figure'), {attributeFilter: ['aria-label']});
  const step = () => {
    const now = performance.now();
    if (drawn) { gaps.push(now - last); }
    drawn = false;
    last = now;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}"""


@pytest.fixture
def drawings():
    """Counts how often an explorable is drawn anew while ``act()`` runs, and how many frames a second that makes.

    Only frames in which the picture changed count: a page that idles between them earns nothing.
    """

    def measure(host, act):
        host.evaluate(_GAPS)
        act()
        gaps = host.evaluate("() => window.gaps")
        return len(gaps), 1000 * len(gaps) / sum(gaps) if gaps else 0.0

    return measure
