"""What the decoder's kernels answer: one integer, and the sentence for it."""

from __future__ import annotations

from typing import Final

from fastload.jpeg.header import REASONS, parse_error

OK: Final = 0
# 1 to 99: a sound file of a kind that is left to libjpeg-turbo; the codes of header.REASONS.
# 100 to 199: 100 + a result of header.parse; no decoder can read the file.
MALFORMED: Final = 100
# From 200: libjpeg-turbo has to judge.
BAD_TABLE: Final = 200
BAD_DATA: Final = 201
BAD_INDEX: Final = 202
NO_ROOM: Final = 203
BAD_CALL: Final = 204

_SENTENCES: Final = {
    OK: "decoded",
    BAD_TABLE: "expected Huffman tables that form a code, but one in the file does not",
    BAD_DATA: "expected entropy-coded data that end where they should, but they do not; the file is damaged",
    BAD_INDEX: "expected a seek index of this very file, but it does not agree with it; rebuild the index",
    NO_ROOM: "expected an image within the workspace's width and bytes; make a larger workspace",
    BAD_CALL: "expected a rectangle inside the image, a stride of at least 3 x width bytes and an output that holds it",
}


def is_unsupported(status: int) -> bool:
    """Whether a status means a sound file of a kind that the decoder leaves to libjpeg-turbo."""
    return OK < status < MALFORMED


def describe(status: int) -> str:
    """The sentence for a status."""
    if is_unsupported(status):
        return REASONS[status]
    if MALFORMED < status < BAD_TABLE:
        return parse_error(status - MALFORMED)
    return _SENTENCES[status]
