"""What stands between a reader and a web server: redirects, passwords, proxies, certificates, requests for patience."""

import base64
import contextlib
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fastload.errors import DataError
from fastload.remote import Patience
from fastload.remote.fetch import Fetcher, Unreachable
from fastload.remote.origin import Refused

DATA = bytes(range(256)) * 400
QUICK = Patience(attempts=4, timeout=60.0, first_wait=0.001, longest_wait=0.01)


class Handler(BaseHTTPRequestHandler):
    """Answers by what the path says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        kind, _, rest = self.path.removeprefix("http://far.example").lstrip("/").partition("/")
        if kind == "moved":
            self._answer(302, b"", Location=f"/file/{rest}")
        elif kind == "round":
            self._answer(301, b"", Location=self.path)
        elif kind == "elsewhere":
            self._answer(307, b"", Location=f"http://localhost:{self.server.server_address[1]}/file/{rest}")
        elif kind == "ftp":
            self._answer(302, b"", Location="file:///etc/passwd")
        elif (
            kind == "secret" and self.headers.get("Authorization") != f"Basic {base64.b64encode(b'me:p:w d').decode()}"
        ):
            self._answer(401, b"who are you?")
        elif kind == "busy" and len(self.server.seen) < 3:
            self._answer(429, b"later", **{"Retry-After": "1" if len(self.server.seen) == 2 else "never"})
        elif kind == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            for begin in range(0, len(DATA), 10):
                self.wfile.write(DATA[begin : begin + 10])
                time.sleep(0.05)
        elif kind == "gzip":
            self._answer(200, DATA, **{"Content-Encoding": "gzip"})
        elif kind == "nothing":
            self._answer(416, b"", **{"Content-Range": "bytes */0"})
        else:
            begin, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = DATA[int(begin) : int(end) + 1 if end else None]
            where = f"bytes {begin}-{int(begin) + len(part) - 1}/{len(DATA)}"
            self._answer(206 if "Range" in self.headers else 200, part, **{"Content-Range": where})

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def listening(context: ssl.SSLContext | None = None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close, server.seen = True, False, []
    server.handle_error = lambda *_: None
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with listening() as found:
        yield found


def read(url: str, start: int = 1000, size: int = 5000, patience: Patience = QUICK) -> bytes:
    fetcher = Fetcher(url, patience)
    try:
        target = bytearray(size)
        fetcher.read_range(url, start, memoryview(target), given_up=lambda: False)
        return bytes(target)
    finally:
        fetcher.close()


def at(server, path: str, user: str = "") -> str:
    return f"http://{user}127.0.0.1:{server.server_address[1]}/{path}"


def test_redirects_are_followed(server):
    assert read(at(server, "moved/x?key=1")) == DATA[1000:6000]
    assert [path for path, _ in server.seen] == ["/moved/x?key=1", "/file/x?key=1"]
    assert all(headers["Range"] == "bytes=1000-5999" for _, headers in server.seen)


def test_redirects_end(server):
    with pytest.raises(Unreachable, match="from one address to the next 5 times"):
        read(at(server, "round/x"))
    with pytest.raises(Refused, match="no http"):
        read(at(server, "ftp/x"))


def test_a_password_is_for_its_host_alone(server):
    user = "me:p%3Aw%20d@"
    assert read(at(server, "secret/x", user)) == DATA[1000:6000]
    assert read(at(server, "elsewhere/x", user)) == DATA[1000:6000]
    assert ["Authorization" in headers for _, headers in server.seen] == [True, True, False]
    with pytest.raises(DataError, match=r"401 .*who you are") as caught:
        read(at(server, "secret/x", "me:wrong@"))
    assert "wrong" not in str(caught.value)


def test_a_server_that_asks_for_patience_gets_it(server):
    begin = time.monotonic()
    assert read(at(server, "busy/x")) == DATA[1000:6000]
    assert time.monotonic() - begin >= 1.0


def test_bytes_that_come_too_slowly_are_broken_off(server):
    patience = Patience(attempts=1, timeout=2.0, slowest=100_000.0)
    with pytest.raises(Unreachable, match=r"only .* bytes came in"):
        read(at(server, "trickle/x"), start=0, size=900, patience=patience)


def test_an_encoding_that_was_not_asked_for_is_refused(server):
    with pytest.raises(Unreachable, match="in the encoding 'gzip', which was not asked for"):
        read(at(server, "gzip/x"))


def test_an_empty_file_has_no_bytes(server):
    fetcher = Fetcher(at(server, ""), QUICK)
    assert fetcher.size(at(server, "nothing/x")) == 0
    assert fetcher.size(at(server, "file/x")) == len(DATA)
    fetcher.close()


def test_a_proxy_is_asked_where_the_environment_names_one(server, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", at(server, "", "who:pass@"))
    assert read("http://far.example/file/x?key=1") == DATA[1000:6000]
    ((path, headers),) = server.seen
    assert path == "http://far.example/file/x?key=1"
    assert headers["Host"] == "far.example"
    assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'who:pass').decode()}"


def test_a_connection_serves_many_requests_and_one_that_was_closed_meanwhile_costs_none(server):
    fetcher = Fetcher(at(server, ""), Patience(attempts=1, timeout=60.0))
    target = memoryview(bytearray(100))
    for _ in range(5):
        fetcher.read_range(at(server, "file/x"), 7, target, given_up=lambda: False)
    (kept,) = fetcher._origin._idle.values()
    assert len(kept) == 1
    kept[0].sock.shutdown(2)  # as a server does after some idle seconds
    fetcher.read_range(at(server, "file/x"), 7, target, given_up=lambda: False)
    assert target == DATA[7:107]
    fetcher.close()


def test_certificates_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("openssl makes no certificates here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with listening(context) as server:
        url = f"https://127.0.0.1:{server.server_address[1]}/file/x"
        with pytest.raises(Refused, match="certificate is not valid"):
            read(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert read(url) == DATA[1000:6000]
