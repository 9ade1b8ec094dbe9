"""Whether two data sets and a network mean the same by a label."""

from __future__ import annotations

from fastload.dataset import Dataset
from fastload.dataset.labels import highest_label
from fastload.errors import ConfigError


def check_classes(train_data: Dataset, val_data: Dataset, *, num_classes: int | None) -> tuple[tuple[str, ...], int]:
    """Names of the classes and the number of outputs, once both data sets are seen to fit them.

    Raises:
        ConfigError: The two data sets have different classes, or more than the network has outputs.
        DataError: A sample has no label.
    """
    if train_data.classes != val_data.classes:
        pairs = zip(train_data.classes, val_data.classes, strict=False)
        first = next((f"{ours!r} against {theirs!r}" for ours, theirs in pairs if ours != theirs), "one has more")
        raise ConfigError(
            f"data.val: its {len(val_data.classes)} classes are not the {len(train_data.classes)} of data.train "
            f"({first}): a label would mean two things"
        )
    both = (("data.train", train_data), ("data.val", val_data))
    highest = max(*(highest_label(data, f"{key}: training and evaluation need") for key, data in both))
    found = max(highest + 1, len(train_data.classes))
    if num_classes is None:
        num_classes = found
    if num_classes < found:
        raise ConfigError(f"model.num_classes: the data has {found} classes, got {num_classes}")
    names = train_data.classes + tuple(str(number) for number in range(len(train_data.classes), num_classes))
    return names, num_classes
