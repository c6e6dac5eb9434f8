"""The tests have no network, wherever they run code: here, in child processes, in notebook kernels."""

import os
import socket
import subprocess
import sys
import threading

import nbclient
import nbformat
import offline_guard
import pytest

# Documentation addresses (RFC 5737, RFC 3849): nothing answers there, should the guard ever fail.
OUTSIDE = "192.0.2.1"
OUTSIDE_6 = "2001:db8::1"
ATTEMPT = f"import socket; socket.create_connection(('{OUTSIDE}', 80), timeout=0.2)"


def child(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def notebook(code):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])


def test_connecting_outside_is_refused_and_says_why():
    with (
        socket.socket() as s,
        pytest.raises(offline_guard.OutsideRefused, match=r"offline guard: .*192\.0\.2\.1.*127\.0\.0\.1"),
    ):
        s.settimeout(0.2)
        s.connect((OUTSIDE, 80))


def test_every_way_out_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for attempt in (
            lambda: udp.connect((OUTSIDE, 53)),
            lambda: udp.connect_ex((OUTSIDE, 53)),
            lambda: udp.sendto(b"x", (OUTSIDE, 53)),
            lambda: udp.sendmsg([b"x"], [], 0, (OUTSIDE, 53)),
            lambda: socket.getaddrinfo("example.org", 80),
            lambda: socket.getaddrinfo(b"example.org", 80),
            lambda: socket.gethostbyname("example.org"),
            lambda: socket.gethostbyaddr(OUTSIDE),
            lambda: socket.getnameinfo((OUTSIDE, 80), 0),
            lambda: socket.create_connection((OUTSIDE_6, 80), timeout=0.2),
            lambda: socket.create_connection(("::ffff:" + OUTSIDE, 80), timeout=0.2),
        ):
            with pytest.raises(offline_guard.OutsideRefused):
                attempt()


def test_a_name_handed_to_connect_gets_no_further_than_its_lookup():
    """C code looks it up before any audit event; the connection is refused, if the lookup did not fail already."""
    with socket.socket() as s, pytest.raises((offline_guard.OutsideRefused, socket.gaierror)):
        s.connect(("example.org", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True).start()
        with socket.create_connection((host, server.getsockname()[1]), timeout=5) as client:
            assert client.recv(5) == b"hello"


def test_binding_own_name_and_local_sockets_work(tmp_path):
    assert socket.getaddrinfo(None, 0, flags=socket.AI_PASSIVE)
    assert socket.getaddrinfo("127.0.0.1", 0)
    socket.getfqdn()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("LocalHost.", True),
        (None, True),
        ("", True),
        ("0.0.0.0", True),
        (OUTSIDE, False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.org", False),
        ("<broadcast>", False),
    ],
)
def test_what_counts_as_this_machine(host, local):
    assert offline_guard._local(host) is local


def test_the_own_name_may_be_looked_up_but_not_connected_to():
    assert offline_guard._local(socket.gethostname(), own_name=True)
    assert not offline_guard._local("elsewhere-" + socket.gethostname())


def test_a_child_process_is_guarded():
    done = child(ATTEMPT)
    assert done.returncode != 0
    assert "offline guard: socket.getaddrinfo" in done.stderr or "offline guard: lookup" in done.stderr
    assert child("print('fine')").stdout == "fine\n"


def test_the_guard_still_runs_the_sitecustomize_it_shadows(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.shadowed_one_ran = True\n")
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])
    done = child("print(shadowed_one_ran)", PYTHONPATH=path)
    assert done.stdout == "True\n", done.stderr
    assert "offline guard" in child(ATTEMPT, PYTHONPATH=path).stderr


def test_a_notebook_cell_that_opens_an_outside_address_fails():
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="offline guard"):
        nbclient.NotebookClient(notebook(ATTEMPT), timeout=60, kernel_name="python3").execute()


@pytest.mark.slow
@pytest.mark.parametrize(("code", "passes"), [(ATTEMPT, False), ("print('fine')", True)])
def test_nbval_runs_under_the_guard(code, passes, request):
    """Plain nbval on a notebook outside tests/ loads the conftest.py of the root, and so the guard."""
    path = request.config.rootpath / "notebooks" / f".guard_probe_{passes}.ipynb"
    book = notebook(code)
    book.cells[0].execution_count = 1
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        nbformat.write(book, path)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", str(path)],
            cwd=request.config.rootpath,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        path.unlink(missing_ok=True)
    assert (done.returncode == 0) is passes, done.stdout
    assert ("offline guard" in done.stdout) is not passes
