"""The work folder of a conversion, in or beside its destination: one writer, what is already done, the clean end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

from fastload.convert.part import PartAccount, part_path, write_durably
from fastload.dataset.opening import WORK_NAME
from fastload.errors import DataError

_PLAN_NAME: Final = "plan.json"
_LOCK_NAME: Final = "lock"


class Workspace:
    """The folder ``DST/.fastload-convert``, or for a file that is to be written ``.DST.fastload-convert`` beside it.

    Args:
        destination: The data set to be.
        beside: Whether that is a file.
    """

    def __init__(self, destination: str, *, beside: bool = False) -> None:
        self.destination = destination
        parent, name = os.path.split(destination)
        self.folder = os.path.join(parent, f".{name}{WORK_NAME}") if beside else os.path.join(destination, WORK_NAME)
        self._beside = beside

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the work folder and holds it alone; the system ends the hold when the process dies.

        Raises:
            DataError: Another conversion writes to the same destination.
        """
        descriptor = self._acquire()
        try:
            yield
        finally:
            os.close(descriptor)

    def _acquire(self) -> int:
        path = os.path.join(self.folder, _LOCK_NAME)
        while True:
            try:
                os.makedirs(self.folder, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            except FileNotFoundError:  # a conversion that just ended removed the folder in between
                continue
            try:
                _lock(descriptor, self.destination)
                if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # the lock of a folder that is gone

    def begin(self, identity: dict[str, Any], *, alone: bool = True) -> None:
        """Notes what this conversion does, or checks that an unfinished one does the same.

        Args:
            identity: Options, source and software, as JSON; equal identities give equal bytes.
            alone: Whether nothing else may lie in the destination.

        Raises:
            DataError: The unfinished conversion in the destination is another one.
        """
        path = os.path.join(self.folder, _PLAN_NAME)
        try:
            with open(path, "rb") as file:
                before = json.loads(file.read())
        except FileNotFoundError:
            if alone:
                self._refuse_foreign_files()
            write_durably(path, json.dumps(identity, indent=1).encode())
            return
        except ValueError as error:
            raise DataError(
                f"the notes of an unfinished conversion are damaged; remove {self.folder}", path=path
            ) from error
        if before != identity:
            raise DataError(
                f"an unfinished conversion lies here that differs in {describe_difference(before, identity)}; "
                f"run it again as it was, or remove {self.folder} to begin anew",
                path=self.destination,
            )

    def _refuse_foreign_files(self) -> None:
        if self._beside:  # convert.beton.finished has looked at what lies there
            return
        others = sorted(set(os.listdir(self.destination)) - {WORK_NAME, "lost+found"})
        if others:
            self.remove_if_empty()
            raise DataError(
                f"expected an empty folder or an unfinished conversion, but found {others[0]!r}; choose another folder",
                path=self.destination,
            )

    def finished_parts(self, num_parts: int) -> dict[int, PartAccount]:
        """Accounts of the parts that an earlier run completed."""
        accounts = ((number, self._account(number)) for number in range(num_parts))
        return {number: account for number, account in accounts if account is not None}

    def _account(self, number: int) -> PartAccount | None:
        try:
            with open(part_path(self.folder, number, "json"), "rb") as file:
                values = json.loads(file.read())
            return PartAccount(**{field.name: int(values[field.name]) for field in fields(PartAccount)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove_if_empty(self) -> None:
        """Leaves no trace of a conversion that never began."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, _LOCK_NAME))
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def remove(self) -> None:
        """Removes the work folder; what cannot be removed stays and harms nobody."""
        shutil.rmtree(self.folder, ignore_errors=True)


def describe_difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """The first entries in which two identities differ: ``max_side (256 then, None now)``."""
    differences = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            if old != new:
                differences.append(describe_difference(old, new))
        elif old != new:
            text = "the files of the source" if name == "digest" else f"{name} ({old!r} then, {new!r} now)"
            differences.append(text)
    return ", ".join(differences)


def _lock(descriptor: int, destination: str) -> None:
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise DataError(
                "another conversion is writing here; wait for it or choose another destination", path=destination
            ) from error
        # A file system without locks: two conversions at once are the user's to avoid.
