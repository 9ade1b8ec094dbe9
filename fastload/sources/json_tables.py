"""The lists of a JSON file of any size, row by row: nothing but the row that is looked at is held in memory."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastload.errors import DataError
from fastload.remote import shown
from fastload.sources.places import Places

Progress = Callable[[int, int], None]

# A row of COCO's has some kilobytes, the longest polygons and run lengths some hundred.
_LARGEST_VALUE: Final = 64 << 20
_PIECE: Final = 1 << 20
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class JsonTables:
    """An object of lists, read once from its beginning to its end.

    Args:
        path: The file, JSON in UTF-8; or its URL.
        places: Opens it.
        wanted: Names of the lists.
        what: What the file should be, for messages.
        most: Bytes that it may have.
        notice: Called with all bytes in their order.
        progress: Called with (done, total) bytes.
        without: Name of a key whose lists of numbers nobody wants: 0 stands for most of them. Making numbers of text
            is most of the work.

    Raises:
        DataError: The file cannot be read, or is larger than ``most``.
    """

    def __init__(
        self,
        path: str,
        places: Places,
        wanted: tuple[str, ...],
        *,
        what: str,
        most: int,
        notice: Callable[[bytes], object],
        progress: Progress | None,
        without: str = "",
    ) -> None:
        self._path, self._wanted, self._what = shown(path), wanted, what
        self._notice, self._progress = notice, progress or (lambda done, total: None)
        self._file = places.reader(path)
        self._size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        if self._size > most:
            self._file.close()
            raise DataError(
                f"expected annotations of at most {most >> 20:,} MiB, but the file has {self._size:,} bytes",
                path=self._path,
            )
        key = re.escape(json.dumps(without))
        # Behind such a list stands the next key, or the end of its row.
        pattern = rf"{key}[ \t\n\r]*:[ \t\n\r]*\[[][0-9eE+\-., \t\n\r]*\](,?)[ \t\n\r]*(?=[\"}}])"
        self._unwanted = re.compile(pattern) if without else None
        self._nothing = rf"{json.dumps(without)}:0\1"
        self._decode = json.JSONDecoder().raw_decode
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._done, self._ended = "", 0, 0, False

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name of a list, and a row of it, as they come; other values of the object are passed over.

        Raises:
            DataError: The file is no such JSON, lacks one of the lists, or one of them holds what is no object.
        """
        seen: set[str] = set()
        try:
            self._expect("{")
            more = not self._accept("}")
            while more:
                name = self._value()
                if not isinstance(name, str):
                    raise self._wrong("a name was expected")
                self._expect(":")
                if name in self._wanted and (name in seen or self._peek() != "["):
                    raise self._other(name)
                if name in self._wanted:
                    seen.add(name)
                if self._peek() == "[":
                    yield from self._rows(name)
                else:
                    self._value()
                more = self._accept(",")
                if not more:
                    self._expect("}")
            if self._peek():
                raise self._wrong("more follows behind its end")
        except (UnicodeDecodeError, RecursionError, ValueError, OSError) as error:
            if isinstance(error, DataError):
                raise
            raise self._wrong(str(error)) from error
        finally:
            self._file.close()
        for name in self._wanted:
            if name not in seen:
                raise self._other(name)

    def _rows(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self._expect("[")
        more = not self._accept("]")
        while more:
            row = self._value()
            if name in self._wanted:
                if not isinstance(row, dict):
                    raise self._other(name)
                yield name, row
            more = self._accept(",")
            if not more:
                self._expect("]")

    def _value(self) -> Any:
        """The next value, whole: what ends where the text that was read ends may go on, and is read again with more."""
        self._peek()
        wanted = _PIECE
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self._wrong(f"damaged at {self._text[error.pos : error.pos + 20]!r}") from error
            if len(self._text) - self._at > _LARGEST_VALUE:
                raise self._wrong("a value of it is damaged, or larger than 64 MiB")
            self._fill(wanted)
            wanted = min(2 * wanted, _LARGEST_VALUE)

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._fill(_PIECE)

    def _accept(self, sign: str) -> bool:
        found = self._peek() == sign
        self._at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            raise self._wrong(f"{sign!r} was expected at {self._text[self._at : self._at + 20]!r}")

    def _fill(self, count: int) -> None:
        """Reads on, and forgets what lies behind."""
        data = self._file.read(count) or b""
        self._ended = not data
        if not self._done and data.startswith(codecs.BOM_UTF8):
            data = data[len(codecs.BOM_UTF8) :]
            self._notice(codecs.BOM_UTF8)
            self._done += len(codecs.BOM_UTF8)
        self._notice(data)
        self._done += len(data)
        text = self._decoder.decode(data, final=self._ended)
        if self._unwanted is not None:
            text = self._unwanted.sub(self._nothing, text)
        self._text = self._text[self._at :] + text
        self._at = 0
        self._progress(self._done, self._size)

    def _wrong(self, reason: str) -> DataError:
        return DataError(f"expected {self._what}, but the file is no JSON: {reason}", path=self._path)

    def _other(self, name: str) -> DataError:
        return DataError(
            f"expected {self._what}, an object with the lists {', '.join(self._wanted)}, but it has no such {name}",
            path=self._path,
        )
