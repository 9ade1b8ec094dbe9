"""A real HTTP server on loopback that hands out a folder, counts, and misbehaves as a seeded script says."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import threading
import time
import unittest.mock
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a server may do to a request. "long" and "short" lie in Content-Length.
MISDEEDS = ("drop", "truncate", "503", "whole", "long", "short", "stall", "flip", "chunked", "shift", "garbage", "416")


@dataclass
class Script:
    """What the server does.

    Attributes:
        misdeeds: Chosen among, by chance.
        share: Of the requests that are mistreated, 0 to 1; never more than three times in a row for the same bytes.
        together: Nobody is answered before so many have asked, or 15 seconds have passed.
        slow: Files with this ending are answered after two minutes.
        gone: Every connection is closed without an answer.
        missing: Names that it says it does not have.
        index: Whether it lists folders, as Python's own server does.
    """

    misdeeds: tuple[str, ...] = ()
    share: float = 0.5
    together: int = 0
    slow: str = "nothing"
    gone: bool = False
    missing: set[str] = field(default_factory=set)
    index: bool = False
    seed: int = 128  # the first two requests are answered, the third never if 3 in 100 are not


class Server:
    """A running server.

    Attributes:
        url: Of the folder.
        most_at_once: Requests that waited for an answer at the same time.
        requests: (name, start, stop, what was done) of each request so far; stop None for the end.
    """

    def __init__(self, folder: Path, script: Script) -> None:
        self.script = script
        self.folder = folder
        self.requests: list[tuple[str, int, int | None, str]] = []
        self.connections = self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self._gathered = threading.Condition(self.lock)
        # One for what is done and one for where: how many requests of several threads are answered between two is
        # chance, and must not change what is done to the next.
        self._chance, self.places = random.Random(script.seed), random.Random(script.seed)
        self._in_a_row: Counter[tuple[str, int | None]] = Counter()
        outer = self

        class Handler(_Handler):
            server_of = outer

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 256

        self._http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/data"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def choose(self, name: str, stop: int | None) -> str:
        """What is done to a request for bytes that end at ``stop``."""
        script, bytes_of = self.script, (name, stop)
        with self.lock:
            number, which = self._chance.random(), self._chance.random()
            if not script.misdeeds or number >= script.share or self._in_a_row[bytes_of] == 3:
                self._in_a_row[bytes_of] = 0
                return "serve"
            self._in_a_row[bytes_of] += 1
            return script.misdeeds[int(which * len(script.misdeeds))]

    def wait_for_others(self) -> None:
        with self._gathered:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self._gathered.notify_all()
            self._gathered.wait_for(lambda: self.most_at_once >= self.script.together, timeout=15)
            self.at_once -= 1

    def counts(self) -> Counter[str]:
        """Requests by what was done."""
        with self.lock:
            return Counter(entry[3] for entry in self.requests)

    def names(self) -> Counter[str]:
        """Requests by file."""
        with self.lock:
            return Counter(entry[0] for entry in self.requests)

    def forget(self) -> None:
        with self.lock:
            self.requests.clear()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(folder: Path, **script) -> Iterator[Server]:
    server = Server(Path(folder), Script(**script))
    try:
        with unittest.mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1"}):
            yield server
    finally:
        server.close()


class _Index(SimpleHTTPRequestHandler):
    """What Python's own web server says of a folder."""

    def __init__(self, folder: Path, path: str) -> None:
        self.path = path
        self.page = self.list_directory(folder).read()

    def send_response(self, *args) -> None:
        pass

    send_header = send_response

    def end_headers(self) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Server

    def log_message(self, *args) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server_of.lock:
            self.server_of.connections += 1

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client may leave at any moment
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        server = self.server_of
        name = unquote(urlsplit(self.path).path).removeprefix("/data/")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = int(wanted[2]) + 1 if wanted and wanted[2] else None
        deed = "gone" if server.script.gone else server.choose(name, stop)
        with server.lock:
            server.requests.append((name, start, stop, deed))
        server.wait_for_others()
        if name.endswith(server.script.slow):
            time.sleep(120)
        path = server.folder / name
        if deed == "gone":
            self.close_connection = True
            return
        listed = path.is_dir() and server.script.index
        if listed and deed != "503":
            page = _Index(path, self.path).page
            self._misbehave("serve" if deed in ("whole", "416") else deed, page, 0, len(page), ranged=False)
            return
        if name in server.script.missing or not (listed or path.is_file()):
            self._answer(404, b"no such file")
            return
        if deed == "503":
            self._answer(503, b"come back later")
            return
        with path.open("rb") as file:
            size = path.stat().st_size
            stop = size if stop is None else min(stop, size)
            file.seek(start)
            data = file.read(max(0, stop - start))
            if deed == "whole":
                file.seek(0)
                whole = file.read()
        total = size
        if wanted and (start >= size or deed == "416"):
            self._answer(416, b"", {"Content-Range": f"bytes */{size}"})
        elif deed == "whole":
            self._answer(200, whole)
        else:
            self._misbehave(deed, data, start, total, ranged=wanted is not None)

    def _misbehave(self, deed: str, data: bytes, start: int, total: int, *, ranged: bool) -> None:
        with self.server_of.lock:
            cut = self.server_of.places.randrange(len(data)) if data else 0
        if deed == "shift" and ranged:
            start += 1
        headers = {"Content-Range": f"bytes {start}-{start + len(data) - 1}/{total}"} if ranged else {}
        status, length = (206 if ranged else 200), len(data)
        if deed == "drop":
            self.close_connection = True
            return
        if deed == "garbage":
            self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n" + data[:cut])
            self.close_connection = True
            return
        if deed == "flip" and data:
            data = data[:cut] + bytes([data[cut] ^ 0x40]) + data[cut + 1 :]
        if deed == "chunked":
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s" % (len(data) + 1, data[:cut]))  # and no more of the chunk
            self.close_connection = True
            return
        if deed == "long":
            length += 1000
        if deed == "short":
            length = max(0, length - 1000)
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if deed in ("truncate", "stall"):
            self.wfile.write(data[:cut])
            self.wfile.flush()
            if deed == "stall":
                time.sleep(1.0)
            self.close_connection = True
            return
        self.wfile.write(data)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
