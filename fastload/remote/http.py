"""Files of an HTTP server by ranges: connections that are kept, redirects, proxies, and no trust in what it says.

http.client and not fsspec's driver: of a body that breaks off that one raises without the bytes that came, so that
nothing can be resumed, and what a server answers in place of a range it hides or asserts.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from fastload.errors import DataError
from fastload.remote.origin import Broken, Patience, Refused
from fastload.remote.urls import shown
from fastload.remote.web_folder import list_web_folder

logger = logging.getLogger("fastload")

_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_MOST_REDIRECTS: Final = 5
_PIECE: Final = 1 << 16
# Not the fault of what was asked for: the same request may be answered later.
_TRANSIENT: Final = frozenset({408, 409, 421, 423, 425, 429})
_ADVICE: Final = {
    401: "the server wants to know who you are: put user:password@ before the host",
    403: "the server does not let you read it: check the permissions, and whether a signed URL has expired",
    404: "there is no such file on the server: check the URL",
    410: "the file is gone from the server",
}

Connection = http.client.HTTPConnection


class HttpOrigin:
    """See Origin. Connections stay open between requests, as many as there are at once."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False
        self._proxies = getproxies()  # once: to look takes as long as all else that a request costs
        self._tls: ssl.SSLContext | None = None
        self._told = False

    def open(self, url: str, start: int, stop: int | None) -> HttpBody:
        origin = urlsplit(url).netloc
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise Refused("the server sent us to what is no http(s) URL", path=shown(url))
            response, connection = self._ask(parts, start, stop, with_user=parts.netloc == origin)
            target = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                return self._accept(response, connection, parts, start, stop)
            self.release(connection, parts, reusable=False)
            url = urljoin(url, target)
        raise Broken(f"the server sent us from one address to the next {_MOST_REDIRECTS} times")

    def size(self, url: str) -> int:
        with self.open(url, 0, 1) as body:
            if body.total is None:
                raise Broken("the server does not say how long the file is")
            return body.total

    def list(self, url: str, read: Callable[[str], bytes], *, deep: bool) -> dict[str, int]:
        return dict.fromkeys(list_web_folder(url, read, deep=deep), -1)

    def _ask(
        self, parts: SplitResult, start: int, stop: int | None, *, with_user: bool
    ) -> tuple[http.client.HTTPResponse, Connection]:
        """Sends a request; once more on a new connection where one that was kept has been closed meanwhile."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "fastload", "Accept": "*/*"}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if with_user and parts.username is not None:
            headers["Authorization"] = _basic(parts)
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        while True:
            connection, fresh, prefix = self._connect(parts)
            if prefix is not None:
                path, headers = prefix[0] + path, headers | prefix[1]
            try:
                connection.request("GET", path, headers=headers)
                return connection.getresponse(), connection
            except ssl.SSLCertVerificationError as error:
                self.release(connection, parts, reusable=False)
                raise Refused(
                    f"the server's certificate is not valid ({error.verify_message})", path=shown(parts.geturl())
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self.release(connection, parts, reusable=False)
                if fresh or isinstance(error, TimeoutError):
                    raise
            except BaseException:
                self.release(connection, parts, reusable=False)
                raise

    def _connect(self, parts: SplitResult) -> tuple[Connection, bool, tuple[str, dict[str, str]] | None]:
        """A connection, whether it is new, and what a proxy wants before the path and among the headers."""
        host, timeout = parts.hostname or "", self._patience.timeout
        proxy = _proxy_for(parts, self._proxies.get(parts.scheme))
        prefix = None
        if proxy is not None and parts.scheme == "http":
            authority = parts.netloc.rpartition("@")[2]
            prefix = (f"http://{authority}", {"Proxy-Authorization": _basic(proxy)} if proxy.username else {})
        with self._lock:
            if self._closed:
                raise Broken("the data set was closed")
            kept = self._idle.get((parts.scheme, parts.netloc))
            if kept:
                connection = kept.pop()
                self._busy.add(connection)
                return connection, False, prefix
        port = parts.port or (443 if parts.scheme == "https" else 80)
        place = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 8080)
        if parts.scheme == "http":
            connection = Connection(*place, timeout=timeout)
        else:
            self._tls = self._tls or ssl.create_default_context()  # takes 20 ms
            connection = http.client.HTTPSConnection(*place, timeout=timeout, context=self._tls)
            if proxy is not None:
                connection.set_tunnel(host, port, {"Proxy-Authorization": _basic(proxy)} if proxy.username else {})
        with self._lock:
            self._busy.add(connection)
        return connection, True, prefix

    def _accept(
        self,
        response: http.client.HTTPResponse,
        connection: Connection,
        parts: SplitResult,
        start: int,
        stop: int | None,
    ) -> HttpBody:
        body = HttpBody(self, response, connection, parts)
        try:
            self._check(response, body, parts, start, stop)
            return body
        except BaseException:
            body.close(reusable=False)
            raise

    def _check(
        self, response: http.client.HTTPResponse, body: HttpBody, parts: SplitResult, start: int, stop: int | None
    ) -> None:
        status, place = response.status, shown(parts.geturl())
        encoding = response.getheader("Content-Encoding", "identity")
        if status in (200, 206) and encoding != "identity":
            raise Broken(f"the server sent the bytes in the encoding {encoding[:20]!r}, which was not asked for")
        if status == 206:
            found = _RANGE.fullmatch(response.getheader("Content-Range", "").strip())
            if found is None or int(found[1]) != start:
                raise Broken(f"expected the bytes from {start:,} on, but the server sent others")
            body.total = None if found[3] == "*" else int(found[3])
        elif status == 200:  # the whole file, whatever was asked for
            body.total = response.length
            if start and not self._told:
                self._told = True
                logger.warning(
                    "%s: the server ignores ranges and sends whole files, of which what is not needed is read and "
                    "thrown away; take another server (python -m http.server is one of these)",
                    place,
                )
            body.skip(start)
        elif status == 416 and start == 0 and response.getheader("Content-Range", "").strip() == "bytes */0":
            body.total = 0
        elif status == 416:
            raise Broken(f"the file has no bytes {start:,} to {'its end' if stop is None else f'{stop:,}'}, as it says")
        elif status >= 500 or status in _TRANSIENT:
            raise Broken(f"the server answered {status} {response.reason}", wait=_asked_wait(response))
        else:
            advice = _ADVICE.get(status, "check the URL")
            raise Refused(f"the server answered {status} {response.reason}; {advice}", path=place)

    def release(self, connection: Connection, parts: SplitResult, *, reusable: bool) -> None:
        """Takes a connection back."""
        with self._lock:
            self._busy.discard(connection)
            if reusable and not self._closed:
                self._idle.setdefault((parts.scheme, parts.netloc), []).append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle = [connection for kept in self._idle.values() for connection in kept]
            busy = list(self._busy)
            self._idle.clear()
        for connection in idle:
            connection.close()
        for connection in busy:  # its thread sees the end of what it waits for, and closes it
            sock = connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class HttpBody:
    """See Body."""

    def __init__(
        self, origin: HttpOrigin, response: http.client.HTTPResponse, connection: Connection, parts: SplitResult
    ) -> None:
        self.total: int | None = None
        self._origin = origin
        self._response = response
        self._connection = connection
        self._parts = parts

    def read_into(self, view: memoryview) -> int:
        data = self._response.read1(len(view))  # what has come; readinto would wait until the view is full
        view[: len(data)] = data
        return len(data)

    def skip(self, count: int) -> None:
        """Reads bytes that were not asked for."""
        room = memoryview(bytearray(min(count, _PIECE)))
        while count:
            done = self.read_into(room[: min(count, _PIECE)])
            if not done:
                raise Broken("the server ignores ranges, and the connection broke off before the first byte we need")
            count -= done

    def close(self, *, reusable: bool) -> None:
        # A connection is used again only if the body ended where its length said.
        whole = self._response.isclosed() or self._response.length == 0
        keep = reusable and whole and not self._response.will_close
        self._response.close()
        self._origin.release(self._connection, self._parts, reusable=keep)

    def __enter__(self) -> HttpBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(reusable=kind is None)


def _asked_wait(response: http.client.HTTPResponse) -> float:
    text = response.getheader("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _proxy_for(parts: SplitResult, url: str | None) -> SplitResult | None:
    if not url or proxy_bypass(parts.hostname or ""):
        return None
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    if not proxy.hostname:
        raise DataError(f"the proxy {shown(url)!r} of the environment is no URL", path=shown(parts.geturl()))
    return proxy


def _basic(parts: SplitResult) -> str:
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(user.encode()).decode('ascii')}"
