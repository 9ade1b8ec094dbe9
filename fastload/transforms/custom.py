"""A declaration of what a user has written: a function on the pixels of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastload.errors import ConfigError
from fastload.transforms.base import Transform, check_flag, check_number, is_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# An operation has room for its number and so many more.
_MAX_PARAMETERS: Final = 15


@dataclass(frozen=True, init=False)
class Lambda(Transform):
    """Calls a function of your own on each image, where other operations on pixels may stand (before Normalize).

    As far as this function goes, images leave the fast lane: each is taken to Python, one call for each, and what
    those cost stands in the stage ``lambda`` of ``Loader.stats()``. A function that numba compiled with ``nogil=True``
    lets all threads work at once; anything else that holds the interpreter's lock makes them wait for each other. It
    cannot stand in a recipe, and must not change between epochs that are to be alike.

    Args:
        lambd: ``f(image, parameters)``, a numba kernel or a function of numpy arrays: image is uint8 (H, W, 3), in
            place of which it writes its result; parameters is float64 (k,). It returns nothing. With ``tensors`` it is
            ``f(image, *parameters)``: image is a uint8 tensor (3, H, W), and it returns one of the same shape, as the
            functions of ``torchvision.transforms.v2.functional`` do.
        parameters: At most 15; each a number, or ``(low, high)`` from which one is drawn uniformly for each sample.
        tensors: Whether the function takes and returns tensors.

    Raises:
        ConfigError: An argument is not as above.
    """

    lambd: Callable[..., Any]
    parameters: tuple[tuple[float, float], ...]
    tensors: bool

    def __init__(
        self,
        lambd: Callable[..., Any],
        parameters: Sequence[Any] = (),
        tensors: bool = False,
    ) -> None:
        owner = self._name()
        if not callable(lambd):
            raise ConfigError(f"{owner}: lambd must be a function of an image, but got {lambd!r}")
        if isinstance(lambd, Transform):
            raise ConfigError(f"{owner}: {lambd} is a declaration, not a function: put it into the chain as it is")
        if not isinstance(parameters, Sequence) or len(parameters) > _MAX_PARAMETERS:
            raise ConfigError(f"{owner}: parameters must be at most {_MAX_PARAMETERS} numbers, but got {parameters!r}")
        self._assign(
            lambd=lambd,
            parameters=tuple(_range(parameter, owner=owner) for parameter in parameters),
            tensors=check_flag(tensors, owner=owner, name="tensors"),
        )

    def apply(self, image: NDArray[np.uint8], parameters: NDArray[np.float64]) -> None:
        """Calls the function.

        Args:
            image: uint8 (height, width, 3), which holds the result afterwards.
            parameters: float64, as drawn; more than the function asks for are left out.

        Raises:
            ConfigError: The function returned what it should not. Whatever the function raises goes through.
        """
        parameters = parameters[: len(self.parameters)]
        if self.tensors:
            self._apply_to_tensor(image, parameters)
            return
        result = self.lambd(image, parameters)
        if result is not None:
            raise ConfigError(
                f"{self}: the function must write its result into the image and return nothing, but it returned "
                f"{_title(result)}: write image[:] = result, or say tensors=True for a function of tensors"
            )

    def _apply_to_tensor(self, image: NDArray[np.uint8], parameters: NDArray[np.float64]) -> None:
        import torch  # who declares has no need of it

        result = self.lambd(torch.from_numpy(image).permute(2, 0, 1), *parameters.tolist())
        height, width, _ = image.shape
        if not isinstance(result, torch.Tensor) or result.dtype != torch.uint8 or result.shape != (3, height, width):
            raise ConfigError(
                f"{self}: the function must return a uint8 tensor of shape (3, {height}, {width}), but it returned "
                f"{_title(result)}"
            )
        image[:] = result.permute(1, 2, 0).numpy(force=True)


def _range(value: Any, *, owner: str) -> tuple[float, float]:
    bounds = (value, value) if is_number(value) else value
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        raise ConfigError(f"{owner}: each of the parameters must be a number or (low, high), but got {value!r}")
    low, high = (check_number(bound, owner=owner, name="parameters") for bound in bounds)
    if low > high:
        raise ConfigError(f"{owner}: each of the parameters must be (low, high) with low <= high, but got {value!r}")
    return low, high


def _title(result: object) -> str:
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    return f"{type(result).__name__}" if shape is None else f"{type(result).__name__} of {tuple(shape)} {dtype}"
