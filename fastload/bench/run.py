"""The course of the benchmark: contestants in processes of their own, measured in turns; then what the figures mean."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from fastload import __version__
from fastload import transforms as T
from fastload.bench import judgement
from fastload.bench.contestants import Contestant
from fastload.bench.report import BenchReport, DataFacts, Gil, MachineFacts, Speed, Storage, Target, Training
from fastload.bench.system import processor_name
from fastload.bench.task import Round, Task
from fastload.errors import ConfigError, FastloadError
from fastload.processors import available_processors
from fastload.recipe import Recipe, load_recipe
from fastload.recipe.schema import IMAGENET_MEAN, IMAGENET_STD
from fastload.remote import is_url, local_path
from fastload.transforms.config import to_config

# Called with what is being done, how much of it is done, how much there is in all, and a note.
OnProgress = Callable[[str, int, int, str], None]

_AS_FLOAT16: Final = (T.ToDtype("float16", scale=True), T.Normalize(IMAGENET_MEAN, IMAGENET_STD))
# What may be done to the images of a data set that comes without a recipe.
PRESETS: Final[Mapping[str, tuple[T.Transform, ...]]] = {
    "train224": (T.RandomResizedCrop(224), T.RandomHorizontalFlip(), *_AS_FLOAT16),
    "eval224": (T.Resize(256), T.CenterCrop(224), *_AS_FLOAT16),
}

_ROUNDS: Final = 3
# Seconds for reading alone, and for Python beside the Loader, out of those that the benchmark may take.
_PROBES: Final = 0.06
# A round of less is all beginning and end.
_SHORTEST: Final = 0.2
# Pages are dropped again once this share of the data set has been read since.
_STILL_COLD: Final = 0.05


def run_bench(
    source: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    batch_size: int | None = None,
    num_workers: int | None = None,
    transform: str | None = None,
    seconds: float = 30.0,
    cold: bool = False,
    target: float | None = None,
    progress: OnProgress | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> BenchReport:
    """Measures fastload and a DataLoader on a data set, and on a recipe's network where one is given.

    Every contestant works in a process of its own, one at a time, in interleaved rounds.

    Args:
        source: Folder of images, data set that ``fastload convert`` wrote or its URL, ``.beton`` file, or recipe
            (``.yaml``).
        overrides: ``key=value`` each, for a recipe.
        batch_size: Images in a batch; None: 128, or what the recipe says.
        num_workers: Most threads, and workers of the DataLoader; None: one per processor, or what the recipe says.
        transform: One of PRESETS for a data set; None: ``train224``.
        seconds: To measure for, at least 2; starting the contestants comes on top of it.
        cold: Drop the pages of the data set's files before each round, so that storage is measured too.
        target: Images per second for which the number of threads is wanted; None: those of the recipe's network.
        progress: Called in this thread as the benchmark goes on.
        cache_dir, cache_bytes: For a data set behind a URL, as in open_dataset; a recipe says its own.

    Raises:
        ConfigError: ``source`` is neither, or an argument does not fit.
        FastloadError: A contestant other than the DataLoader failed.
    """
    begin = time.monotonic()
    source = local_path(source)
    recipe = _recipe(source, overrides, batch_size, transform)
    if recipe is not None and cache_dir is not None:
        raise ConfigError("a recipe says where its cache is: data.cache_dir=...")
    if cold and is_url(source if recipe is None else recipe.data.train):
        raise ConfigError("--cold drops pages of files of this machine; leave it out for a data set behind a URL")
    if seconds < 2 or seconds != seconds:
        raise ConfigError(f"--seconds must be at least 2, got {seconds:g}")
    if target is not None and not 0 < target < 1e9:
        raise ConfigError(f"--target must be a number of images per second above 0, got {target:g}")
    report = progress or (lambda name, done, total, note: None)
    with ExitStack() as stack:
        bench = _Bench(stack, report, seconds=seconds, cold=cold)
        if recipe is None:
            task = Task(
                path=source,
                transforms=to_config(PRESETS[transform or "train224"]),
                batch_size=batch_size or 128,
                channels_last=True,
                cold=cold,
                loader={},
                opening={"cache_dir": None if cache_dir is None else os.fspath(cache_dir), "cache_bytes": cache_bytes},
            )
        else:
            task = bench.add_model(recipe, cold=cold)
            num_workers = num_workers or recipe.data.num_workers
        bench.add_loaders(task, num_workers or available_processors())
        bench.measure()
        return bench.conclude(recipe=None if recipe is None else source, target=target, begin=begin)


def _recipe(source: str, overrides: Sequence[str], batch_size: int | None, transform: str | None) -> Recipe | None:
    """The recipe at ``source``, or None where it is a data set."""
    if not is_url(source) and not os.path.exists(source):
        raise ConfigError(
            f"there is nothing at {source}: expected a folder of images, a data set that fastload convert wrote, a "
            ".beton file or a recipe (.yaml)"
        )
    if os.path.isfile(source) and Path(source).suffix in (".yaml", ".yml"):
        if transform is not None:
            raise ConfigError("--transform is for data sets: a recipe says its own (transforms.train=...)")
        settings = [*overrides] if batch_size is None else [*overrides, f"train.batch_size={batch_size}"]
        return load_recipe(source, settings)
    if os.path.isfile(source) and Path(source).suffix != ".beton":
        raise ConfigError(
            f"{source} is neither a data set (a folder of images, what fastload convert wrote, a .beton file) nor a "
            "recipe (.yaml)"
        )
    if overrides:
        raise ConfigError(f"key=value is for recipes, and {source} is a data set: leave out {' '.join(overrides)}")
    if transform is not None and transform not in PRESETS:
        raise ConfigError(f"--transform must be one of {', '.join(PRESETS)}, got {transform!r}")
    return None


@dataclass(kw_only=True)
class _Runner:
    """One of those that are measured in turns: what measures it, and what it has done so far."""

    name: str
    measure: Callable[[float], Any]
    rounds: list[Any] = field(default_factory=list)
    failure: str | None = None


class _Bench:
    """A benchmark under way."""

    def __init__(self, stack: ExitStack, report: OnProgress, *, seconds: float, cold: bool) -> None:
        self._stack = stack
        self._report = report
        self._seconds = seconds
        self._cold = cold
        self._runners: list[_Runner] = []
        self._model: Contestant | None = None
        self._plan: dict[str, Any] = {}
        self._read_since_drop = 0.0
        self._started = 0

    def add_model(self, recipe: Recipe, *, cold: bool) -> Task:
        """Starts the recipe's network; returns what the recipe asks of the loaders."""
        self._model = self._start("the recipe's network", "model", recipe.model_dump(mode="json"))
        self._plan = plan = self._model.ask("plan")
        return Task(
            path=recipe.data.train,
            transforms=plan["transforms"],
            batch_size=plan["batch_size"],
            channels_last=plan["channels_last"],
            cold=cold,
            loader=plan["loader"],
            opening={"cache_dir": recipe.data.cache_dir, "cache_bytes": recipe.data.cache_bytes},
        )

    def add_loaders(self, task: Task, workers: int) -> None:
        """Starts fastload and the DataLoader, and lets each deliver its first batch."""
        self._task, self._workers = task, workers
        begin = time.monotonic()
        self._loader = self._start("fastload", "fastload", task)
        self._first_batch_seconds = time.monotonic() - begin
        facts = self._loader.ask("describe")
        self._data, self._in_memory = DataFacts(**facts["data"]), facts["in_memory"]
        if self._cold:
            self._drop()
        share = max(0.3, _PROBES * self._seconds)
        self._reading = self._loader.ask("read", threads=workers, seconds=share)
        begin = time.monotonic()
        compiled = self._loader.ask("first_batch", threads=workers)["compiled"]
        self._first_batch_seconds += time.monotonic() - begin
        if compiled:  # the compiler's memory stays with the process, and is not what loading takes
            self._loader.close()
            self._loader = self._start("fastload", "fastload", task)
        for threads in thread_counts(workers):
            self._add(f"fastload {threads}", threads)
        self._scaling = list(self._runners)
        self._torch = _Runner(name="DataLoader", measure=lambda seconds: None)
        with self._noted(self._torch):
            other = self._start("DataLoader", "torch", task)
            other.ask("first_batch", threads=workers)
            self._torch.measure = lambda seconds: other.measure(workers, seconds)
            self._runners.append(self._torch)
        if self._model is not None:
            self._prepare_model(self._model)

    def _prepare_model(self, model: Contestant) -> None:
        self._report("starting", 3, 4, "the network's first steps")
        self._prepared = model.ask("prepare", seconds=self._slot(len(self._runners) + 2))
        self._alone = _Runner(name="network", measure=lambda seconds: model.ask("measure_model", seconds=seconds))
        self._together = _Runner(
            name="training",
            measure=lambda seconds: model.ask("measure_together", workers=self._workers, seconds=seconds),
        )
        self._runners += [self._alone, self._together]

    def measure(self) -> None:
        """The rounds, in turns; every other one backwards, so that none always comes after the same."""
        slot, total, done = self._slot(len(self._runners)), _ROUNDS * len(self._runners), 0
        for number in range(_ROUNDS):
            for runner in self._runners if number % 2 == 0 else reversed(self._runners):
                self._report("measuring", done, total, runner.name)
                if runner.failure is None:
                    if self._cold and self._read_since_drop > _STILL_COLD * self._data.samples:
                        self._drop()
                    with self._noted(runner):
                        runner.rounds.append(runner.measure(slot))
                        self._read_since_drop += _images(runner.rounds[-1])
                done += 1
        self._report("measuring", total, total, "Python's lock")
        self._gil = self._loader.ask("gil", workers=self._workers, seconds=max(1.0, _PROBES * self._seconds))

    def conclude(self, *, recipe: str | None, target: float | None, begin: float) -> BenchReport:
        """Puts together what was measured."""
        rounds: list[Round] = self._scaling[-1].rounds
        scaling = tuple(judgement.speed(runner.rounds) for runner in self._scaling)
        fastload = scaling[-1]
        read_cpu = self._reading["cpu_seconds"] / max(1, self._reading["reads"])
        limit = judgement.limit_of_loader(rounds, self._data, read_cpu)
        training = self._training(fastload) if self._model is not None else None
        gil = Gil(**self._gil) if self._gil else None
        return BenchReport(
            recipe=recipe,
            data=self._data,
            machine=_machine(),
            transforms=tuple(self._task.transforms),
            batch_size=self._task.batch_size,
            rounds=_ROUNDS,
            cold=self._cold,
            first_batch_seconds=self._first_batch_seconds,
            fastload=fastload,
            scaling=scaling,
            stages=judgement.stage_costs(rounds, read_cpu),
            decoders={
                name.removeprefix("decoder."): sum(one.counts.get(name, 0) for one in rounds)
                for name in sorted({name for one in rounds for name in one.counts})
                if name.startswith("decoder.")
            },
            dataloader=judgement.speed(self._torch.rounds) if self._torch.rounds else None,
            dataloader_failure=self._torch.failure,
            storage=self._storage(rounds, fastload),
            gil=gil,
            training=training,
            limit=limit if training is None else judgement.limit_of_training(training, limit),
            target=self._target(
                target,
                training,
                scaling,
                busy=judgement.on_processor(rounds, read_cpu) < judgement.CONTENDED,
            ),
            seconds=time.monotonic() - begin,
            notes=tuple(
                judgement.notes(
                    rounds=rounds,
                    data=self._data,
                    batch_size=self._task.batch_size,
                    fastload=fastload,
                    processors=available_processors(),
                )
            ),
        )

    def _storage(self, rounds: Sequence[Round], fastload: Speed) -> Storage:
        reading = self._reading
        wanted = sum(one.counts.get("bytes.read", 0) for one in rounds)
        fetched = [one.device_bytes for one in rounds if one.device_bytes is not None]
        return Storage(
            threads=reading["threads"],
            reads=reading["reads"],
            num_bytes=reading["num_bytes"],
            megabytes_per_second=reading["num_bytes"] / 1e6 / reading["seconds"],
            reads_per_second=reading["reads"] / reading["seconds"],
            cpu_ms_per_read=1000 * reading["cpu_seconds"] / max(1, reading["reads"]),
            in_memory_before=self._in_memory,
            in_memory_read=reading["in_memory"],
            dropped=self._cold,
            # What the system reads ahead counts as fetched, so that it may be more than was asked for.
            from_device=min(1.0, sum(fetched) / wanted) if fetched and wanted else None,
            needed_megabytes_per_second=self._data.mean_bytes / 1e6 * fastload.images_per_second,
        )

    def _training(self, fastload: Speed) -> Training:
        model = _median_speed(self._alone.rounds)
        together = _median_speed(self._together.rounds)
        wait_share = sum(one["wait_seconds"] for one in self._together.rounds) / sum(
            one["seconds"] for one in self._together.rounds
        )
        waits = judgement.who_waits(together=together, model=model, wait_share=wait_share)
        return Training(
            device=self._plan["device"],
            model=self._plan["model"],
            resolution=self._plan["resolution"],
            batch_size=self._prepared["batch_size"],
            recipe_batch_size=self._plan["batch_size"],
            model_images_per_second=model,
            loader_images_per_second=fastload.images_per_second,
            together_images_per_second=together,
            wait_share=wait_share,
            waits="training" if waits else "loader",
            copy_images_per_second=self._prepared["copy_images_per_second"],
        )

    def _target(
        self, asked: float | None, training: Training | None, scaling: Sequence[Speed], *, busy: bool
    ) -> Target | None:
        wanted = asked or (training.model_images_per_second if training is not None else None)
        if wanted is None:
            return None
        threads, extrapolated = judgement.threads_for(wanted, scaling, busy=busy)
        return Target(
            images_per_second=wanted,
            source="asked" if asked else "model",
            threads=threads,
            extrapolated=extrapolated,
            processors_needed=wanted * scaling[-1].cpu_ms_per_image / 1000,
            processors=available_processors(),
            megabytes_per_second=self._data.mean_bytes / 1e6 * wanted,
        )

    def _add(self, name: str, workers: int) -> None:
        self._runners.append(_Runner(name=name, measure=lambda seconds: self._loader.measure(workers, seconds)))

    def _start(self, name: str, kind: str, task: Task | Mapping[str, Any]) -> Contestant:
        steps = 4 if self._model is not None or kind == "model" else 2
        self._report("starting", min(self._started, steps), steps, name)
        self._started += 1
        contestant = self._stack.enter_context(Contestant(name, kind, task))
        contestant.wait_until_ready()
        return contestant

    def _slot(self, runners: int) -> float:
        """Seconds of one round of one of ``runners``."""
        return max(_SHORTEST, self._seconds * (1 - 2 * _PROBES) / (_ROUNDS * runners))

    def _drop(self) -> None:
        self._in_memory_after_drop = self._loader.ask("drop")["in_memory"]
        self._read_since_drop = 0.0

    @contextmanager
    def _noted(self, runner: _Runner) -> Iterator[None]:
        """A DataLoader that fails is a line of the report, whatever else fails ends the benchmark."""
        try:
            yield
        except FastloadError as error:
            if runner is not self._torch:
                raise
            runner.failure = str(error)


def thread_counts(most: int) -> list[int]:
    """1, 2, 4 ... and ``most``."""
    counts = [1]
    while 2 * counts[-1] < most:
        counts.append(2 * counts[-1])
    return counts if most == 1 else [*counts, most]


def _images(done: Round | dict[str, Any]) -> int:
    return done.images if isinstance(done, Round) else int(done["images"])


def _median_speed(rounds: Sequence[Mapping[str, float]]) -> float:
    rates = sorted(one["images"] / one["seconds"] for one in rounds)
    return rates[len(rates) // 2]


def _machine() -> MachineFacts:
    return MachineFacts(
        processors=available_processors(),
        processor=processor_name(),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=metadata.version("torch"),
        fastload=__version__,
    )
