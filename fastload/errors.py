"""The errors that fastload raises: each says what was expected, what arrived, and what to do."""

from __future__ import annotations


class FastloadError(Exception):
    """Base of every error that fastload raises on purpose."""


class DataError(FastloadError, ValueError):
    """A file, shard, index or sample is not what it should be.

    Args:
        reason: One sentence: what was expected, what came, what to do.
        path: File (or shard) concerned, if there is one.
        key: Key of the sample concerned, if there is one.
    """

    def __init__(self, reason: str, *, path: str | None = None, key: str | None = None) -> None:
        self.reason = reason
        self.path = path
        self.key = key
        place = ": ".join(part for part in (path, f"sample {key!r}" if key is not None else None) if part)
        super().__init__(f"{place}: {reason}" if place else reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_data_error, (self.reason, self.path, self.key))


def _rebuild_data_error(reason: str, path: str | None, key: str | None) -> DataError:
    return DataError(reason, path=path, key=key)


class ConfigError(FastloadError, ValueError):
    """An argument, option or recipe entry has a value that cannot be used."""


class MissingExtraError(FastloadError, ImportError):
    """An optional package is needed that is not installed.

    Args:
        package: What is missing, as it is imported.
        extra: The extra of fastload that brings it.
        purpose: What it is needed for.
        install: What to pass to ``pip install`` where that is not simply the extra.
    """

    def __init__(self, package: str, *, extra: str, purpose: str, install: str | None = None) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: run pip install "
            f"{install or repr(f'fastload[{extra}]')}"
        )
