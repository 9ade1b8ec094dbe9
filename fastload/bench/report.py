"""What a benchmark found: every number that is drawn or written as JSON, with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

# Changes when a field of the JSON changes its meaning or goes; new fields may come without.
SCHEMA_VERSION: Final = 1

LimitName = Literal["storage", "decode", "augment", "gil", "copy", "model", "processors"]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data set.

    Attributes:
        path: Where it is.
        form: ``folder``, ``shards`` or ``beton``.
        samples, classes: How many.
        mean_bytes: Of an image file, bytes.
        seek_index: Whether its JPEGs have seek indexes, with which crops are decoded faster.
    """

    path: str
    form: str
    samples: int
    classes: int
    mean_bytes: float
    seek_index: bool


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """What it ran on.

    Attributes:
        processors: That this process may use.
        processor: Name of the processor.
        platform, python, torch, fastload: Versions.
    """

    processors: int
    processor: str
    platform: str
    python: str
    torch: str
    fastload: str


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One loader, measured in several rounds in a process of its own.

    Attributes:
        workers: Threads (fastload) or worker processes (DataLoader).
        images: Images delivered in all rounds together.
        images_per_second: Median of the rounds.
        slowest, fastest: Images per second of the slowest and of the fastest round.
        cpu_ms_per_image: Processor time of all its threads and processes, median of the rounds.
        memory_bytes: Most seen in the middle of the rounds, all its processes together, shared pages counted once
            (PSS), without pages of files such as libraries; None where the system does not say.
        skipped: Images that could not be read and were replaced.
    """

    workers: int
    images: int
    images_per_second: float
    slowest: float
    fastest: float
    cpu_ms_per_image: float
    memory_bytes: int | None
    skipped: int


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage of fastload, with all threads at work.

    Attributes:
        stage: A stage of fastload.stats, or ``rest``: what the process does between them.
        cpu_ms_per_image: Processor time. Threads' time in the stage, less what they waited there for storage and for
            a processor; the latter is spread evenly over the stages.
        wait_ms_per_image: Time in which a thread waited in the stage for storage.
        share: Of the processor time of all stages, 0 to 1.
    """

    stage: str
    cpu_ms_per_image: float
    wait_ms_per_image: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Reading the data set's images in random order, without decoding; and where the Loader's bytes came from.

    Attributes:
        threads: That read.
        reads, num_bytes: Images and bytes read.
        megabytes_per_second, reads_per_second: 10^6 bytes, and images, each second.
        cpu_ms_per_read: Processor time of the reading threads for one image.
        in_memory_before: Share of the images' pages that the page cache held when the benchmark began (of a sample),
            0 to 1; None where the system does not say.
        in_memory_read: The same share of the images that were read here, just before.
        dropped: Whether the pages were dropped first (``--cold``).
        from_device: Share of the bytes that fastload's Loader read while it was measured that came from the storage
            device and not from memory; None where the system does not say.
        needed_megabytes_per_second: What the Loader reads at the speed that was measured.
    """

    threads: int
    reads: int
    num_bytes: int
    megabytes_per_second: float
    reads_per_second: float
    cpu_ms_per_read: float
    in_memory_before: float | None
    in_memory_read: float | None
    dropped: bool
    from_device: float | None
    needed_megabytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Gil:
    """A main thread that runs nothing but Python, beside a Loader that is read by another thread.

    Attributes:
        threads: Of the Loader: one less than there are processors, so that the main thread has one of its own.
        main_thread_speed: Of the main thread, 1 being its speed without the Loader: its share of the time in which it
            did not wait for the interpreter's lock.
        us_per_image: Time for which the main thread waited for the interpreter's lock, for one loaded image.
        images_per_second: What the Loader loaded meanwhile.
    """

    threads: int
    main_thread_speed: float
    us_per_image: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """The recipe's network.

    Attributes:
        device: Where it computes.
        model: Its name.
        resolution: Side of its images in pixels: that of the first epoch, when the network asks for most images.
        batch_size: Images in a step here.
        recipe_batch_size: Images in a step of the recipe (fewer are taken here where one step takes too long).
        model_images_per_second: Trained on random pixels that are there already.
        loader_images_per_second: The Loader alone.
        together_images_per_second: Training on what the Loader delivers.
        wait_share: Share of that time for which training waited for the Loader, 0 to 1.
        waits: Who waits: ``training`` for the Loader, or the ``loader`` for training.
        copy_images_per_second: Images that can be copied to the device each second; None on the CPU.
    """

    device: str
    model: str
    resolution: int
    batch_size: int
    recipe_batch_size: int
    model_images_per_second: float
    loader_images_per_second: float
    together_images_per_second: float
    wait_share: float
    waits: Literal["training", "loader"]
    copy_images_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What keeps it from being faster.

    Attributes:
        name: Storage, decode, augment (drawing, cropping, resizing, storing), gil (Python between the kernels), copy,
            model, or processors (other programs use them).
        share: Of the threads' time (for model: of the time in which training did not wait), 0 to 1.
        reason: One sentence.
        advice: What to do about it.
    """

    name: LimitName
    share: float
    reason: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a given speed takes.

    Attributes:
        images_per_second: The speed.
        source: ``asked`` or ``model`` (the measured speed of the recipe's network).
        threads: Threads that reach it.
        extrapolated: Whether that is beyond what was measured.
        processors_needed: Processors that this keeps busy, at the measured processor time per image.
        processors: That this machine has.
        megabytes_per_second: That storage has to deliver.
    """

    images_per_second: float
    source: Literal["asked", "model"]
    threads: int
    extrapolated: bool
    processors_needed: float
    processors: int
    megabytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """The result of ``fastload bench``.

    Attributes:
        recipe: Path of the recipe, or None.
        data: The data set.
        machine: What it ran on.
        transforms: As ``fastload.transforms.to_config`` writes them.
        batch_size: Images in a batch of the loaders.
        rounds: How often each was measured, in turns.
        cold: Whether pages of the files were dropped before each round.
        first_batch_seconds: From starting fastload's process to its first batch, imports and compilation included.
        fastload: The Loader with as many threads as it may have.
        scaling: The Loader with 1, 2, 4 ... threads, that one included.
        stages: Where its processor time goes.
        decoders: Images by decoder.
        dataloader: torchvision's ImageFolder (or the same samples out of the shards), Pillow, v2 and DataLoader.
        dataloader_failure: Why there are no figures of it, or None.
        storage: Reading alone.
        gil: The interpreter's lock; None where there is one processor only.
        training: The recipe's network; None for a data set.
        limit: What keeps it from being faster.
        target: Threads for a given speed; None where none was asked for.
        seconds: Wall seconds of the whole benchmark.
        notes: What a reader of the figures must know.
    """

    recipe: str | None
    data: DataFacts
    machine: MachineFacts
    transforms: tuple[Mapping[str, Any], ...]
    batch_size: int
    rounds: int
    cold: bool
    first_batch_seconds: float
    fastload: Speed
    scaling: tuple[Speed, ...]
    stages: tuple[StageCost, ...]
    decoders: Mapping[str, int]
    dataloader: Speed | None
    dataloader_failure: str | None
    storage: Storage
    gil: Gil | None
    training: Training | None
    limit: Limit
    target: Target | None
    seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"version": SCHEMA_VERSION, **asdict(self)}
