"""What a web server's page about a folder says lies in it: the links of an index, which most servers can make."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from fastload.remote.origin import Refused
from fastload.remote.urls import shown

# A page has no checksum, and one that was cut short lacks files: it must end as pages do, or is asked for again.
_END: Final = b"</html>"
_ATTEMPTS: Final = 5
# Links to folders may lead round in circles.
_DEEPEST: Final = 16


def list_web_folder(url: str, read: Callable[[str], bytes], *, deep: bool) -> list[str]:
    """Names of what lies in a folder, "/" between them; or, not ``deep``, files and folders of it alone, these with a
    "/" at their end.

    Args:
        url: The folder.
        read: Gives a page; raises DataError where there is none.
        deep: Whether to look into its folders as well.

    Raises:
        Refused: The server has no page about the folder, or none that lists it.
    """
    found: list[str] = []
    waiting = [("", 0)]
    while waiting:
        folder, depth = waiting.pop()
        for name in _entries(url, folder, read):
            if not name.endswith("/") or not deep:
                found.append(folder + name)
            elif depth < _DEEPEST:
                waiting.append((folder + name, depth + 1))
    return found


def _entries(url: str, folder: str, read: Callable[[str], bytes]) -> list[str]:
    parts = urlsplit(url)
    base = f"{unquote(parts.path).rstrip('/')}/{folder}"
    page = urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quote(folder)}", parts.query, ""))
    for _ in range(_ATTEMPTS):
        try:
            data = read(page)
        except Refused as error:
            raise Refused(
                f"this web server does not list the folder ({error.reason}): name its files (shard-{{000..099}}.tar), "
                "or have the server make an index of it",
                path=shown(url),
            ) from error
        if data.rstrip()[-len(_END) :].lower() == _END:
            return sorted(_names(data, page, base))
    raise Refused("what the web server answers for this folder is no complete page that lists it", path=shown(page))


def _names(data: bytes, page: str, base: str) -> set[str]:
    links = _Links()
    links.feed(data.decode("utf-8", "surrogateescape"))
    names = set()
    for link in links.found:
        try:
            parts = urlsplit(urljoin(page, link))
        except ValueError:
            continue
        path = unquote(parts.path, errors="surrogateescape")
        name = path[len(base) :]
        # The folder above, other places, and the same folder in another order are no entries.
        if path.startswith(base) and name.strip("/.") and "/" not in name[:-1] and "\0" not in name and not parts.query:
            names.add(name)
    return names


class _Links(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
