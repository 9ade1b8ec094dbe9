"""How kernels are compiled and cached: every flag, with its reason, and the one place that keeps compiled code."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
import numba.extending
import numpy as np
import platformdirs
from numpy.typing import NDArray

from fastload.collecting import no_collections

logger = logging.getLogger("fastload")

Function = TypeVar("Function", bound=Callable[..., Any])

_PACKAGE = Path(__file__).parent
# numba's cache notices a change of the file that defines a kernel, but not of one that it calls into. All files that
# hold kernels therefore name the cache folder together.
_KERNEL_SOURCES = (
    "jit.py",
    "jpeg/**/*.py",
    "engine/cpu/**/*.py",
    "engine/limits.py",
    "augment/program.py",
    "convert/shrink.py",
)

_FLAGS: dict[str, Any] = {
    # Kernels run beside the user's training loop: never hold the interpreter's lock.
    "nogil": True,
    # Division by zero gives inf instead of a branch to an exception; kernels check their divisors themselves.
    "error_model": "numpy",
    # Results must be equal on every machine: no reassociation, no approximate division.
    "fastmath": False,
    # FASTLOAD_BOUNDSCHECK=1 builds every array access with a check, for the fuzzing job; it is about 3x slower.
    "boundscheck": os.environ.get("FASTLOAD_BOUNDSCHECK") == "1",
}

# The settings are set at run time, from the environment: numba's annotations do not know them.
_numba_config: Any = numba.config

# What Python never calls needs no entry for it: an eighth of the time that the decoder's kernels take to compile.
_WITHOUT_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_lock = threading.Lock()


def user_cache_directory() -> Path:
    """The folder that holds what fastload keeps between runs: ``$FASTLOAD_CACHE_DIR`` or the platform's usual place."""
    override = os.environ.get("FASTLOAD_CACHE_DIR")
    return Path(override) if override else Path(platformdirs.user_cache_dir("fastload", appauthor=False))


@functools.cache
def kernel_cache_directory() -> Path | None:
    """The folder of compiled kernels of this version of the sources, or None where nothing can be written.

    A home directory that is read-only is replaced by a folder in the system's temporary directory that belongs to the
    user alone.
    """
    digest = hashlib.sha256(f"{sys.version}|{numba.__version__}|{llvmlite.__version__}|{_FLAGS}".encode())
    for pattern in _KERNEL_SOURCES:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.relative_to(_PACKAGE).as_posix().encode() + b"\0" + source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    uid = os.getuid() if hasattr(os, "getuid") else 0
    for parent in (user_cache_directory(), Path(tempfile.gettempdir()) / f"fastload-{uid}"):
        folder = parent / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Compiled code is loaded and run: a folder that somebody else owns is not ours to trust.
            if hasattr(os, "getuid") and folder.stat().st_uid != uid:
                continue
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return None


@contextlib.contextmanager
def _numba_cache_at(folder: Path) -> Iterator[None]:
    """Numba reads its cache folder from a global when a function is decorated; the user's own value is put back."""
    with _lock:
        before = _numba_config.CACHE_DIR
        _numba_config.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            _numba_config.CACHE_DIR = before


def kernel(function: Function) -> Function:
    """Compiles a function with numba when it is first called: no interpreter lock, cached on disk once per machine.

    A kernel is called with one signature only. Numba's cache is not locked between processes; with one signature two
    processes that start together write equal files, each by an atomic rename, and either may win.
    """
    folder = kernel_cache_directory()
    if folder is None:
        return numba.njit(**_FLAGS)(function)  # type: ignore[no-any-return]
    with _numba_cache_at(folder):
        return numba.njit(cache=True, **_FLAGS)(function)  # type: ignore[no-any-return]


def writable(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes as an array that may be written, for kernels that will not: a copy where they may not (10 us for 110 KB).

    numba compiles a kernel once more for arrays that cannot be written, 10 seconds for the decoder.
    """
    array: NDArray[np.uint8] = np.frombuffer(data, np.uint8)
    return array if array.flags.writeable else array.copy()


def inlined(function: Function) -> Function:
    """A helper of kernels, compiled into each of its callers; never called from Python, so not cached by itself.

    Without the wrappers that would make it callable from Python: they take a fifth of the time to compile.
    """
    flags = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_FLAGS}
    return numba.njit(**flags)(function)  # type: ignore[no-any-return]


def fused(function: Function) -> Function:
    """As ``inlined``, and LLVM must merge it into its callers: for inner loops whose state has to stay in registers."""
    return numba.njit(forceinline=True, **_WITHOUT_ENTRY, **_FLAGS)(function)  # type: ignore[no-any-return]


def _is_plain(kind: Any) -> bool:
    """Whether a type is one that kernels give each other: arrays that can be written, numbers of 64 bits."""
    types: Any = numba.types
    if isinstance(kind, types.Array):
        return bool(kind.mutable)
    if isinstance(kind, types.BaseTuple):
        return all(map(_is_plain, kind.types))
    return not isinstance(kind, types.Number) or bool(kind.bitwidth == 64)


def _compiled(kernel: Any) -> Any:
    """A kernel as other kernels call it. Python may have had it compiled for arrays that cannot be written as well."""
    (compiled,) = [one for one in kernel.overloads.values() if all(map(_is_plain, one.signature.args))]
    return compiled


def entry(kernel: Any) -> int:
    """The address of a kernel that has been compiled or loaded, for ``calls``."""
    compiled = _compiled(kernel)
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def calls(kernel: Any) -> Any:
    """For kernels: a function ``call(address, arguments)`` that calls ``kernel`` at its ``entry`` with a tuple.

    numba would take a kernel that another one calls by name into it, and compile it a second time: 10 seconds for the
    decoder. It must have been compiled or loaded before, for arrays that can be written.
    """

    def call(_typing: Any, _address: Any, arguments: Any) -> Any:
        signature = _compiled(kernel).signature

        def emit(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            convention = context.call_conv
            kind = convention.get_function_type(signature.return_type, signature.args)
            function = builder.inttoptr(values[0], kind.as_pointer())
            parts = [builder.extract_value(values[1], place) for place in range(len(signature.args))]
            status, result = convention.call_function(builder, function, signature.return_type, signature.args, parts)
            with builder.if_then(status.is_error):  # only with boundscheck
                convention.return_status_propagate(builder, status)
            return result

        types: Any = numba.types
        return signature.return_type(types.int64, types.Tuple(signature.args)), emit

    return numba.extending.intrinsic(call)


def calls_unseen(result: Any) -> Any:
    """For kernels: as ``calls``, of any kernel that returns ``result``, compiled or not; its types are those given.

    Whoever stores its ``entry`` answers for it that it was compiled for the same types.
    """

    def call(_typing: Any, _address: Any, arguments: Any) -> Any:
        def emit(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            convention, kinds = context.call_conv, arguments.types
            function = builder.inttoptr(values[0], convention.get_function_type(result, kinds).as_pointer())
            parts = [builder.extract_value(values[1], place) for place in range(len(kinds))]
            status, answer = convention.call_function(builder, function, result, kinds, parts)
            with builder.if_then(status.is_error):  # only with boundscheck
                convention.return_status_propagate(builder, status)
            return answer

        types: Any = numba.types
        return result(types.int64, arguments), emit

    return numba.extending.intrinsic(call)


def _borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A value whose arrays count no references: whoever stores it keeps them alive."""
    types: Any = numba.types
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo, array.parent = (part.type(None) for part in (array.meminfo, array.parent))
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for place, part in enumerate(kind.types):
            inner = _borrowed(context, builder, part, builder.extract_value(value, place))
            value = builder.insert_value(value, inner, place)
    return value


def _freeze(_typing: Any, arguments: Any, _address: Any, _size: Any) -> Any:
    def emit(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        value = _borrowed(context, builder, arguments, values[0])
        needed = values[2].type(context.get_abi_sizeof(value.type))
        with builder.if_then(builder.icmp_signed(">=", values[2], needed)):
            builder.store(value, builder.inttoptr(values[1], value.type.as_pointer()))
        return needed

    types: Any = numba.types
    return types.int64(arguments, types.uint64, types.int64), emit


# For kernels: ``freeze(arguments, address, size)`` stores a tuple of arrays and numbers, as kernels take it, in so many
# bytes at an aligned address, and returns how many it needs: with fewer it stores nothing. Arguments that stay the same
# are so taken apart once and not in each call (1 us for five arrays in the caches, 15 where a batch has driven numba's
# code out of them). What is stored holds no array: whoever calls keeps them all for as long as it is used.
freeze: Any = numba.extending.intrinsic(_freeze)


def thaws(kernel: Any) -> Any:
    """For kernels: a function ``thaw(address)`` that returns what ``kernel`` has frozen there, its first argument.

    It must have been compiled or loaded before, for arrays that can be written.
    """

    def thaw(_typing: Any, _address: Any) -> Any:
        kind = _compiled(kernel).signature.args[0]

        def emit(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            return builder.load(builder.inttoptr(values[0], context.get_value_type(kind).as_pointer()))

        types: Any = numba.types
        return kind(types.uint64), emit

    return numba.extending.intrinsic(thaw)


# For kernels: ``call_of_integer(address, arguments)``, and of those that answer True or False.
call_of_integer: Any = calls_unseen(numba.types.int64)
call_of_truth: Any = calls_unseen(numba.types.boolean)


def compile_once(name: str, warm_up: Callable[[], None]) -> None:
    """Calls ``warm_up``, which calls every kernel of one group once, so that the first batch does not wait.

    The first process on a machine compiles, says so, and others that start with it wait for it in place of compiling
    the same again (a lock file; where locks are not to be had each compiles for itself, which is slower, not wrong).
    """
    folder = kernel_cache_directory()
    if folder is None:
        logger.warning("no folder is writable for compiled kernels: they are compiled anew in every process")
        warm_up()
        return
    stamp = folder / f"{name}.compiled"
    if stamp.exists():
        warm_up()
        return
    with file_lock(folder / f"{name}.lock"):
        if not stamp.exists():
            logger.warning("compiling fastload's %s kernels for this machine, once (about 10 seconds)", name)
        with no_collections():
            warm_up()
        with contextlib.suppress(OSError):
            stamp.touch()


def is_compiled(name: str) -> bool:
    """Whether ``compile_once`` has compiled a group for this machine."""
    folder = kernel_cache_directory()
    return folder is not None and (folder / f"{name}.compiled").exists()


def start_compiling(program: str) -> subprocess.Popen[bytes]:
    """Runs ``program``, which ends in ``compile_once(name, ...)``, in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def compiling_beside(name: str, program: str) -> Iterator[None]:
    """Runs ``program``, which ends in ``compile_once(name, ...)``, in a process of its own, if that is still to do.

    numba compiles in one thread at a time, so only a process helps. Whatever becomes of it, ``compile_once`` after this
    block does what is left to do.
    """
    if kernel_cache_directory() is None or is_compiled(name):
        yield
        return
    try:
        child = start_compiling(program)
    except OSError:
        yield
        return
    try:
        yield
        child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds a lock between processes (and threads) for the block; goes on without one where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    try:
        handle = open(path, "a")
    except OSError:
        yield
        return
    with handle:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file releases the lock
