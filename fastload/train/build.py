"""The composition root of training: a Recipe in, every part of the run made from it with plain arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from fastload.dataset import Dataset, open_dataset
from fastload.errors import ConfigError
from fastload.loader import Loader
from fastload.recipe import Recipe, dump_yaml
from fastload.train.distributed import World, world
from fastload.train.ema import WeightAverage
from fastload.train.epoch import EpochPlan
from fastload.train.folder import RECIPE, prepare_folder
from fastload.train.images import eval_transforms, takes_size, train_transforms
from fastload.train.journal import Journal
from fastload.train.labels import check_classes
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer, decay_groups
from fastload.train.progress import Progress, RunInfo
from fastload.train.report import TrainReport, make_report, write_report
from fastload.train.run import Run, RunPlan
from fastload.train.saving import Identity, resume_run
from fastload.train.schedule import create_schedule, resolution_at
from fastload.train.state import RunState
from fastload.train.stepper import Precision, Stepper, choose_precision
from fastload.train.threads import training_threads
from fastload.transforms import Transform

INPUT_DTYPES: dict[Precision, str] = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


def train(recipe: Recipe, *, progress: Progress | None = None) -> TrainReport:
    """Trains as a recipe says, and writes log, report, figures and checkpoints into ``report.directory``.

    Started by torchrun, all processes call it; each gets the same report and rank 0 alone writes.

    Args:
        recipe: What to train; see :func:`fastload.recipe.load_recipe`.
        progress: Called as the run goes on, on rank 0.

    Raises:
        ConfigError: An entry of the recipe cannot be used here, or a checkpoint belongs to another run.
        DataError: A data set, a checkpoint or a sample cannot be read.
        FastloadError: The training diverges.
    """
    with ExitStack() as stack:
        place = stack.enter_context(world(recipe.train.device))
        stack.enter_context(backends(recipe, place))
        stack.enter_context(training_threads(place.device, recipe.train.num_threads))
        return _train(recipe, place, progress or Progress(), stack)


def _train(recipe: Recipe, place: World, progress: Progress, stack: ExitStack) -> TrainReport:
    datasets = [
        stack.enter_context(open_dataset(Path(path).expanduser(), verify=recipe.data.verify))
        for path in (recipe.data.train, recipe.data.val)
    ]
    classes, num_classes = check_classes(*datasets, num_classes=recipe.model.num_classes)
    precision = choose_precision(recipe.train.amp, place.device)
    directory = Path(recipe.report.directory).expanduser()
    resume_from = prepare_folder(
        directory, resume=recipe.checkpoint.resume, overwrite=recipe.report.overwrite, world=place
    )
    train_loader, val_loader = (stack.enter_context(item) for item in _loaders(recipe, datasets, place, precision))
    stepper = build_stepper(recipe, place, precision, num_classes, resuming=resume_from is not None)
    identity = Identity(
        recipe=dump_yaml(recipe),
        facts={
            "global_batch": train_loader.batch_size * place.size,
            "train_fingerprint": datasets[0].fingerprint,
            "val_fingerprint": datasets[1].fingerprint,
        },
    )
    state, loader_state, log_bytes = RunState(), None, None
    if resume_from is not None:
        resumed = resume_run(resume_from, stepper=stepper, identity=identity, world=place)
        state, loader_state, log_bytes = resumed.state, resumed.loader_state, resumed.log_bytes
    if place.is_main:
        (directory / RECIPE).write_text(identity.recipe, encoding="utf-8")
    journal = stack.enter_context(Journal(directory if place.is_main else None, tensorboard=recipe.report.tensorboard))
    if log_bytes is not None:
        journal.rewind(log_bytes)
    run = Run(
        _run_plan(recipe, num_classes),
        _epoch_plan(recipe, precision, train_loader, place),
        stepper=stepper,
        train_loader=train_loader,
        val_loader=val_loader,
        world=place,
        state=state,
        directory=directory,
        journal=journal,
        progress=progress,
        identity=identity,
    )
    info = _run_info(recipe, run, precision)
    journal.write("begin" if resume_from is None else "resume", step=state.step, **vars(info))
    if place.is_main:
        progress.begin(info)
    metrics = run.go(loader_state)
    stats = train_loader.stats()
    report = make_report(
        directory,
        state=state,
        metrics=metrics,
        classes=classes,
        metric=recipe.checkpoint.metric,
        eval_account=run.eval_account,
        stages=stats.spans,
        counts=stats.counts,
    )
    if place.is_main:
        journal.write("end", step=state.step, epoch=state.epoch, **metrics.summary())
        write_report(report, state, figures=recipe.report.figures)
    return report


def _loaders(recipe: Recipe, datasets: list[Dataset], place: World, precision: Precision) -> tuple[Loader, Loader]:
    common: dict[str, Any] = {
        "engine": recipe.data.engine,
        "device": place.device if place.device.type == "cuda" else None,
        "num_workers": recipe.data.num_workers,
        "on_error": recipe.data.on_error,
        "rank": place.rank,
        "world_size": place.size,
        "prefetch": recipe.data.prefetch,
        "memory_format": "channels_last" if recipe.model.channels_last else "contiguous",
        "seed": recipe.train.seed,
    }
    look = {
        "dtype": INPUT_DTYPES[precision],
        "mean": recipe.transforms.mean,
        "std": recipe.transforms.std,
    }
    evaluation = eval_transforms(
        recipe.transforms.eval,
        size=recipe.eval.size,
        crop_ratio=recipe.eval.crop_ratio,
        **look,  # type: ignore[arg-type]
    )
    train_loader = Loader(
        datasets[0],
        batch_size=recipe.train.batch_size,
        transforms=epoch_transforms(recipe, precision, 0),
        shuffle=recipe.data.shuffle,
        last_batch=recipe.data.last_batch,
        **common,
    )
    val_loader = Loader(
        datasets[1],
        batch_size=recipe.eval.batch_size or recipe.train.batch_size,
        transforms=evaluation,
        shuffle=False,
        last_batch="pad",
        **common,
    )
    return train_loader, val_loader


def epoch_transforms(recipe: Recipe, precision: Precision, epoch: int) -> tuple[Transform, ...]:
    """What an epoch of training does to an image, conversion and normalisation included."""
    return train_transforms(
        recipe.transforms.train,
        size=epoch_resolution(recipe, epoch),
        dtype=INPUT_DTYPES[precision],
        mean=recipe.transforms.mean,
        std=recipe.transforms.std,
    )


def epoch_resolution(recipe: Recipe, epoch: int) -> int:
    """Side of the training images of an epoch, in pixels."""
    side = recipe.resolution
    return resolution_at(
        epoch,
        smallest=side.min,
        largest=side.max,
        ramp_start=side.ramp_start,
        ramp_end=side.ramp_end,
        multiple=side.multiple,
    )


def build_stepper(
    recipe: Recipe, place: World, precision: Precision, num_classes: int, *, resuming: bool = False
) -> Stepper:
    """The recipe's network and optimiser on the device of ``place``.

    Args:
        resuming: Whether a checkpoint brings the weights, so that ``model.pretrained`` is not read.
    """
    options = recipe.train
    torch.manual_seed(options.seed)
    model = create_model(
        recipe.model.name,
        num_classes=num_classes,
        args=recipe.model.args,
        # A checkpoint brings all weights: the file that the run began with need not be there any more.
        pretrained=None if resuming else recipe.model.pretrained,
        freeze=recipe.model.freeze,
        blurpool=recipe.model.blurpool,
        channels_last=recipe.model.channels_last,
    ).to(place.device)
    if options.sync_batchnorm and place.size > 1:
        if place.device.type != "cuda":
            raise ConfigError("train.sync_batchnorm: torch has it on CUDA only; set it to false")
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    settings = recipe.optimizer
    groups = decay_groups(
        model,
        weight_decay=settings.weight_decay,
        decay_norm=settings.decay_norm,
        decay_bias=settings.decay_bias,
        no_decay=settings.no_decay,
    )
    step_images = options.batch_size * place.size * options.accumulate
    lr = settings.lr if settings.lr_batch is None else settings.lr * step_images / settings.lr_batch
    schedule = recipe.schedule.model_dump()
    average = options.ema
    return Stepper(
        model,
        create_optimizer(settings.name, groups, lr=lr, args=settings.args),
        world=place,
        lr=lr,
        schedule=create_schedule(schedule.pop("name"), epochs=options.epochs, **schedule),
        precision=precision,
        label_smoothing=options.label_smoothing,
        clip_norm=options.clip_norm,
        clip_value=options.clip_value,
        average=None if average is None else WeightAverage(model, decay=average.decay, warmup=average.warmup),
        compile=options.compile,
        seed=options.seed,
    )


def _epoch_plan(recipe: Recipe, precision: Precision, loader: Loader, place: World) -> EpochPlan:
    if recipe.resolution.max is not None and not takes_size(recipe.transforms.train):
        raise ConfigError(
            "resolution.max: every entry of transforms.train says its own size, so that the images cannot grow; leave "
            "the size out where it should"
        )
    return EpochPlan(
        accumulate=recipe.train.accumulate,
        train_samples=len(loader.dataset),
        global_batch=loader.batch_size * place.size,
        transforms=lambda epoch: epoch_transforms(recipe, precision, epoch),
        resolution=lambda epoch: epoch_resolution(recipe, epoch),
        log_every=recipe.report.log_every,
        save_every_steps=recipe.checkpoint.every_steps,
    )


def _run_plan(recipe: Recipe, num_classes: int) -> RunPlan:
    stopping = recipe.train.early_stopping
    return RunPlan(
        epochs=recipe.train.epochs,
        num_classes=num_classes,
        flip=recipe.eval.flip,
        eval_every=recipe.eval.every,
        save_every_epochs=recipe.checkpoint.every_epochs,
        metric=recipe.checkpoint.metric,
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
    )


def _run_info(recipe: Recipe, run: Run, precision: Precision) -> RunInfo:
    loader, place = run.trainer.loader, run.world
    return RunInfo(
        directory=str(run.directory),
        model=recipe.model.name,
        parameters=sum(item.numel() for item in run.stepper.model.parameters() if item.requires_grad),
        train_samples=len(loader.dataset),
        val_samples=len(run.val_loader.dataset),
        epochs=recipe.train.epochs,
        batches_per_epoch=len(loader),
        first_epoch=run.state.epoch,
        first_batch=run.state.batch,
        global_batch=loader.batch_size * place.size * recipe.train.accumulate,
        world_size=place.size,
        device=str(place.device),
        amp=precision,
    )


@contextmanager
def backends(recipe: Recipe, place: World) -> Iterator[None]:
    """Torch's global switches for the run; the caller's values are put back."""
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    if place.device.type == "cuda":
        torch.backends.cudnn.benchmark = not recipe.train.deterministic
    if recipe.train.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])
