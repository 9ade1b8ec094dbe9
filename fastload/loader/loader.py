"""Loader: the iterable that takes the place of a DataLoader, over shards or over a plain folder of images."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal

import torch

from fastload.augment import AugmentPlan, MemoryFormat, compile_plan
from fastload.augment.targets import TargetRules
from fastload.dataset import Dataset, Verify, open_dataset
from fastload.device import resolve_device
from fastload.errors import ConfigError, DataError, FastloadError
from fastload.loader.build import ENGINE_NAMES, EngineName, build_machinery
from fastload.loader.choose import Choice, choose
from fastload.loader.iteration import EpochIterator
from fastload.loader.ledger import Ledger, LoaderStats
from fastload.loader.machinery import Keeper
from fastload.loader.mixing import Mixer
from fastload.loader.options import (
    check_place,
    default_num_workers,
    integer,
    memory_format_name,
    one_of,
    place_among_ranks,
)
from fastload.loader.plan import EpochPlan
from fastload.loader.position import Position, Sequence, from_state, to_state
from fastload.loader.targets import TargetReader, Targets, as_targets
from fastload.order import BatchPlan, GlobalOrder, LastBatch, OrderMode
from fastload.stats import Stats
from fastload.transforms import Transform, flatten
from fastload.transforms.config import to_config

_MODES: dict[bool | str, OrderMode] = {True: "global", "local": "local", False: "sequential"}


class Loader:
    """Batches of decoded, augmented images, in an order that depends on (seed, epoch, global batch size) alone.

    Each ``iter(loader)`` begins the next epoch: the first is epoch 0, or what ``set_epoch`` said, or where a loaded
    state stands; the one after it is the next, whether or not the first was read to its end. An iterator that has
    handed over no batch does not count (Lightning makes one to begin with). ``set_epoch`` is therefore needed only
    where epochs are not simply counted. One iterator lives at a time: beginning another ends the one before it.

    Draws belong to sample numbers, and numbers to the order in which samples are stored. A folder and the shards that
    were converted from it hold the same samples, but where convert shuffled its writing the numbers differ, and with
    them order and crops of an epoch. Without random transforms a sample has the same pixels in both.

    Threads and slots exist from the first ``iter`` on. They stay, idle, between epochs that are read to their end, and
    go when an iterator is abandoned, when it raises, with ``close()``, or with the Loader.

    Args:
        source: Folder or URL of a converted data set, folder of images, .beton file, or an open Dataset (which the
            Loader will not close). What a URL may be, open_dataset says.
        batch_size: Samples per rank and batch.
        transforms: Declarations of fastload.transforms; they must end in one size for all images.
        shuffle: True: every sample may come anywhere. "local": shards are shuffled, then samples within a window of
            shards, for storage that wants reads near each other. False: as stored.
        last_batch: What becomes of the last global batch where it is not full: "keep" splits it among the ranks (a
            rank's share may be smaller, even empty), "drop" leaves it out, "pad" fills it up with samples that
            ``Batch.valid`` marks. Every rank has the same number of batches in each case.
        repeats: Repeated augmentation (Hoffer et al. 2020; DeiT's RASampler): each sample comes this many times in a
            row of the shuffled order, drawn anew each time. An epoch has as many images as without, hence 1 in
            ``repeats`` of the samples; the others come in other epochs. Needs shuffle.
        engine: "cpu" decodes in threads of this process; "dali" by NVIDIA DALI, on the device if there is one; "hybrid"
            lets both work, each on the share of the batches that a short measurement gives it. "auto" measures where
            there is a device and DALI, and takes what is the fastest; ``stats().engine`` says what and why. Order and
            all that is drawn are the same with all of them, resampled pixels within 1 grey level but for the borders of
            crops (see DaliEngine): name an engine where runs have to be equal to the bit.
        device: None or "cpu" for tensors in ordinary memory; "cuda", "cuda:1" or a torch.device for tensors there,
            copied beside the user's work, one batch ahead.
        seed: 0 <= seed < 2**64. Order and augmentation depend on it.
        num_workers: Threads of the engine; None: one for each processor that this process may use, shared among
            torchrun's local processes. Results do not depend on it.
        on_error: What becomes of a sample that cannot be delivered: "raise" raises DataError in ``next``; "skip" puts
            another sample in its place, chosen by (seed, epoch, sample), counts it and lists it in ``stats``.
        targets: What is marked in the images (boxes, keypoints, masks), as ``batch.targets``: "list" is one dict for
            each sample, "padded" one dict of tensors; a fastload.Targets says more. It follows the pixels, and
            ``images, targets = batch``, both tuples where there are several views. Field names are those of the data
            set; "masks" are those of single objects.
        rank: This process among world_size; both None: torch.distributed's, if it is initialised, else torchrun's RANK
            and WORLD_SIZE, else 0 of 1.
        world_size: Number of processes that share each global batch of batch_size x world_size.
        prefetch: The most batches that the engine works on while the user works on one. Two take in steps that differ
            in length. Memory for them is made when batches come late without it: two batches in all (the user's, and
            the next) serve a loop that waits for the engine, or the engine for it; up to prefetch + 2 where steps vary.
        memory_format: "channels_last" or "contiguous" (torch.channels_last and torch.contiguous_format are taken too):
            what the model's convolutions want. The values are the same, and neither costs a copy.
        verify: When bytes of a converted data set are compared with their checksums: the "first" time that they are
            read, "always" or "never".
        cache_dir: Folder that keeps what was fetched from a URL, for this and other processes: where it has room for
            all, later epochs fetch nothing. None keeps no samples. Of no meaning for what lies on this machine.
        cache_bytes: What all files there may take together; None leaves a twentieth of the disk free.
        reuse_buffers: Take back a batch's memory when the next batch is asked for, even if it is still seen (at most
            prefetch + 1 batches in all in place of prefetch + 2). Without it, and on a device always, a batch is the
            user's as long as he keeps it.

    Raises:
        ConfigError: An argument cannot be used; the message says what was expected.
        DataError: The data set is missing, damaged or empty.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Dataset,
        *,
        batch_size: int,
        transforms: Iterable[Transform] = (),
        shuffle: bool | Literal["local"] = True,
        last_batch: LastBatch = "keep",
        repeats: int = 1,
        engine: EngineName = "auto",
        device: str | torch.device | None = None,
        seed: int = 0,
        num_workers: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        targets: Targets | Literal["list", "padded"] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        prefetch: int = 2,
        memory_format: MemoryFormat | torch.memory_format = "channels_last",
        verify: Verify = "first",
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        reuse_buffers: bool = False,
    ) -> None:
        one_of("shuffle", shuffle, _MODES)
        one_of("engine", engine, ENGINE_NAMES)
        one_of("last_batch", last_batch, ("keep", "drop", "pad"))
        one_of("on_error", on_error, ("raise", "skip"))
        one_of("verify", verify, ("first", "always", "never"))
        one_of("reuse_buffers", reuse_buffers, (True, False))
        self._engine = engine
        self._choice: Choice | None = None
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        self.num_workers = (
            default_num_workers() if num_workers is None else integer("num_workers", num_workers, at_least=1)
        )
        self._prefetch = integer("prefetch", prefetch, at_least=1)
        self._place_given = rank is not None
        self.rank, self.world_size = place_among_ranks(rank, world_size)
        self.device = resolve_device(device)
        self._shuffle = shuffle
        self._on_error = on_error
        self._targets = as_targets(targets)
        self._memory_format = memory_format_name(memory_format)
        self._reuse_buffers = reuse_buffers
        self.set_transforms(transforms)
        self._owns_dataset = not isinstance(source, Dataset)
        if not self._owns_dataset and verify != "first":
            raise ConfigError("verify is decided where a data set is opened: pass it to open_dataset")
        if not self._owns_dataset and (cache_dir is not None or cache_bytes is not None):
            raise ConfigError("the cache is decided where a data set is opened: pass cache_dir to open_dataset")
        self.dataset: Dataset = (
            source
            if isinstance(source, Dataset)
            else open_dataset(source, verify=verify, cache_dir=cache_dir, cache_bytes=cache_bytes)
        )
        num_samples = len(self.dataset)
        if num_samples == 0:
            raise DataError("the data set holds no samples", path=self.dataset.path)
        self._order = GlobalOrder(
            num_samples,
            seed=integer("seed", seed, at_least=0),
            mode=_MODES[shuffle],
            shard_sizes=self.dataset.shard_sizes() if shuffle == "local" else None,
            repeats=integer("repeats", repeats, at_least=1),
        )
        self._batches = BatchPlan(
            num_samples, self.batch_size, rank=self.rank, world_size=self.world_size, last_batch=last_batch
        )
        self._stats = Stats()
        self._keeper = Keeper()
        self._target_reader()
        self._mixer: Mixer | None = None
        self._ready_mixer()
        self._ledger: Ledger | None = None
        self._next_epoch = 0
        self._position = Position(epoch=0, batch=0, transforms="")
        self._resume: Position | None = None
        self._unread: Position | None = None  # where the last iterator began, until it hands over a batch
        self._iteration: weakref.ref[EpochIterator] | None = None
        self._closed = False
        weakref.finalize(self, self._keeper.close_from_anywhere)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in label order; empty where the data set has none."""
        return self.dataset.classes

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or that the next ``iter`` begins."""
        return self._position.epoch

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What the next epoch does to each sample."""
        return self._transforms

    def set_transforms(self, transforms: Iterable[Transform]) -> None:
        """Other transforms from the next epoch on; an epoch that is being read goes on with its own.

        Only where the form of the output changes (its size, say) are threads and slots built anew.

        Raises:
            ConfigError: The transforms cannot be used.
        """
        self._transforms = tuple(flatten(transforms))
        self._augment: AugmentPlan = compile_plan(self._transforms)

    def set_epoch(self, epoch: int) -> None:
        """The next ``iter`` reads this epoch, from its beginning; where a loaded state stands in it, from there."""
        epoch = integer("epoch", epoch, at_least=0)
        standing, self._unread = self._resume or self._unread, None
        self._resume = standing if standing is not None and standing.epoch == epoch else None
        if self._resume is not None:
            return
        self._next_epoch = epoch
        if self._active is None:
            self._position = Position(epoch=epoch, batch=0, transforms="")

    def __len__(self) -> int:
        """Batches in an epoch; the same on every rank."""
        return self._batches.num_batches

    def __iter__(self) -> EpochIterator:
        if self._closed:
            raise FastloadError("this Loader was closed: make another one")
        if not self._place_given:
            check_place(self.rank, self.world_size)
        self._end_iteration("this iterator was ended because another one was begun on the same Loader")
        position = self._resume or self._unread or Position(epoch=self._next_epoch, batch=0, transforms="")
        digest = _digest(self._transforms)
        if position.batch and position.transforms != digest:
            raise ConfigError(
                f"the state was written in the middle of epoch {position.epoch} with other transforms than this Loader "
                f"has ({self._transforms!r}): make it with those of the run that wrote the state; set_transforms may "
                "change them from the next epoch on"
            )
        self._resume, self._unread = None, position
        self._next_epoch = position.epoch + 1
        self._position = Position(epoch=position.epoch, batch=position.batch, transforms=digest)
        self._ledger = Ledger(epoch=position.epoch, first_batch=position.batch)
        plan = EpochPlan(
            epoch=position.epoch,
            dataset=self.dataset,
            order=self._order,
            batches=self._batches,
            augment=self._augment,
            mixer=self._ready_mixer(),
            targets=self._target_reader(),
        )
        self._ready_machinery(plan)
        iteration = EpochIterator(
            plan,
            first_batch=position.batch,
            keeper=self._keeper,
            prefetch=self._prefetch,
            replace=self._on_error == "skip",
            stats=self._stats,
            ledger=self._ledger,
            move_to=self._move_to,
        )
        self._iteration = weakref.ref(iteration)
        return iteration

    def state_dict(self) -> dict[str, Any]:
        """Where the user stands: a small object for JSON, after any batch, between epochs, or before the first.

        It counts the batches that the user was handed, not those that are on their way. Another Loader goes on from
        there, whatever its world size, threads and device, if the global batch size is the same.
        """
        return to_state(self._sequence, self._position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next ``iter`` goes on where ``state`` was taken; ends an iterator that is alive.

        Raises:
            ConfigError: The state does not belong to this sequence of batches; the message names what differs, both
                values, and what to do. Transforms are compared when the epoch goes on, so that ``set_transforms`` may
                come before or after.
        """
        position = from_state(state, self._sequence)
        if position.batch > len(self):
            raise ConfigError(f"the state stands at batch {position.batch} of an epoch of {len(self)}: it is damaged")
        self._end_iteration("this iterator was ended because the Loader was sent to another position")
        self._resume = self._position = position
        self._unread = None
        self._next_epoch = position.epoch

    def stats(self) -> LoaderStats:
        """Where the time went since the Loader was made, and the account of the epoch."""
        counts = {**self._stats.counts(), **self.dataset.counts()}
        if self._keeper.machinery is not None:
            counts["slots.added"] = self._keeper.machinery.num_added
        return LoaderStats(
            spans=self._stats.spans(),
            counts=counts,
            epoch=self._ledger.read_out() if self._ledger is not None else None,
            engine=f"{self._choice.name} ({self._choice.reason})" if self._choice is not None else self._engine,
        )

    def close(self) -> None:
        """Ends threads, frees slots that nobody sees, and closes the data set if the Loader opened it.

        Batches that the user holds stay his. Safe to call twice.
        """
        self._closed = True
        self._end_iteration("this Loader was closed")
        self._keeper.close()
        if self._owns_dataset:
            self.dataset.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _active(self) -> EpochIterator | None:
        """The iterator that is being read, if there is one."""
        iteration = self._iteration() if self._iteration is not None else None
        return iteration if iteration is not None and not iteration.ended else None

    @property
    def _sequence(self) -> Sequence:
        return Sequence(
            seed=self._order.seed,
            fingerprint=self.dataset.fingerprint,
            num_samples=self._order.num_samples,
            global_batch_size=self._batches.global_batch_size,
            shuffle=self._shuffle,
            last_batch=self._batches.last_batch,
            repeats=self._order.repeats,
        )

    def _move_to(self, epoch: int, batch: int) -> None:
        self._unread = None
        self._position = Position(epoch=epoch, batch=batch, transforms=self._position.transforms if batch else "")

    def _end_iteration(self, reason: str) -> None:
        iteration, self._iteration = self._active, None
        if iteration is not None:
            iteration.close(reason)

    def _ready_mixer(self) -> Mixer | None:
        """What mixes the batches of the next epoch; looks at all labels where the steps are new."""
        steps = self._augment.mixing
        if steps and (self._mixer is None or self._mixer.steps != steps):
            self._mixer = Mixer(steps, self.dataset)
        return self._mixer if steps else None

    def _target_reader(self) -> TargetReader | None:
        """What reads the targets of the next epoch."""
        plan = self._augment
        if self._targets is None:
            for view in plan.views:
                if view.targets != TargetRules():
                    raise ConfigError(
                        f"{view.targets} is about targets: give the Loader targets='list' or 'padded', too"
                    )
            return None
        if plan.mixing:
            raise ConfigError("MixUp and CutMix mix labels of images, not boxes or masks: leave them or targets out")
        executor = self._keeper.executor(min(4, self.num_workers))
        return TargetReader(self.dataset, plan, self._targets, executor)

    def _ready_machinery(self, plan: EpochPlan) -> None:
        """Keeps what the last epoch was read with if it still serves, else builds another."""
        rows = self.batch_size if self._batches.last_batch == "pad" else min(self.batch_size, self._order.num_samples)
        output = self._augment.output.altered(memory_format=self._memory_format)
        kept, values, operates = self._keeper.machinery, self._augment.erases_values, self._augment.operates
        if kept is not None and kept.usable and (kept.output, kept.values) == (output, values):
            if not kept.uses_dali or kept.operates == operates:
                return
        self._keeper.close_machinery()
        build = functools.partial(
            build_machinery,
            self.dataset,
            output,
            rows=rows,
            # At most: those that the engine works on, the one that is handed over, and the one that is still seen then.
            num_slots=min(self._prefetch, len(self)) + (1 if self._reuse_buffers and self.device is None else 2),
            num_workers=self.num_workers,
            device=self.device,
            reuse_buffers=self._reuse_buffers,
            augmented=self._augment.augmented,
            operates=operates,
            values=values,
        )
        if self._choice is None:
            self._choice = choose(self._engine, self.device, lambda shares: build(shares=shares, stats=Stats()), plan)
        self._keeper.machinery = build(shares=self._choice.shares, stats=self._stats)


def _digest(transforms: tuple[Transform, ...]) -> str:
    """Equal for equal transforms, whatever machine or version of Python."""
    return hashlib.sha256(json.dumps(to_config(transforms, functions=True), sort_keys=True).encode()).hexdigest()[:16]
