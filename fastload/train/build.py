"""The composition root of training: a Recipe in, every part of the run made from it with plain arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from fastload.errors import ConfigError
from fastload.recipe import Recipe, dump_yaml
from fastload.train.compiling import room_for_graphs
from fastload.train.data import Data, epoch_resolution, epoch_transforms, open_data, resident_batch
from fastload.train.distributed import World, world
from fastload.train.ema import WeightAverage
from fastload.train.epoch import EpochPlan
from fastload.train.folder import RECIPE, prepare_folder
from fastload.train.images import takes_size
from fastload.train.journal import Journal
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer, decay_groups
from fastload.train.progress import Progress, RunInfo
from fastload.train.report import TrainReport, make_report, write_report
from fastload.train.run import Run, RunPlan
from fastload.train.saving import Identity, resume_run
from fastload.train.schedule import create_schedule
from fastload.train.state import RunState
from fastload.train.stepper import Precision, Stepper, choose_precision
from fastload.train.threads import training_threads


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
    precision = choose_precision(recipe.train.amp, place.device)
    data = open_data(recipe, place, precision, stack)
    directory = Path(recipe.report.directory).expanduser()
    resume_from = prepare_folder(
        directory, resume=recipe.checkpoint.resume, overwrite=recipe.report.overwrite, world=place
    )
    stepper = build_stepper(recipe, place, precision, data.num_classes, resuming=resume_from is not None)
    identity = Identity(
        recipe=dump_yaml(recipe),
        facts={
            "global_batch": data.train.batch_size * place.size,
            "train_fingerprint": data.fingerprints[0],
            "val_fingerprint": data.fingerprints[1],
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
        _run_plan(recipe, data.num_classes),
        _epoch_plan(recipe, precision, data, place),
        stepper=stepper,
        train_loader=data.train,
        val_loader=data.val,
        world=place,
        state=state,
        directory=directory,
        journal=journal,
        progress=progress,
        identity=identity,
    )
    info = _run_info(recipe, run, precision, data)
    journal.write("begin" if resume_from is None else "resume", step=state.step, **vars(info))
    if place.is_main:
        progress.begin(info)
    stack.enter_context(room_for_graphs(len(_sides(recipe, 0))))
    stepper.warm_up(
        resident_batch(recipe, place, precision, data.num_classes, data.train.batch_size, side)
        for side in _sides(recipe, state.epoch)
    )
    if stepper.graphs and place.is_main:
        text = f"compiled {stepper.graphs} graphs in {stepper.compile_seconds:.0f} s"
        progress.message(text, {"graphs": stepper.graphs, "seconds": stepper.compile_seconds})
    metrics = run.go(loader_state)
    stats = data.train.stats()
    report = make_report(
        directory,
        state=state,
        metrics=metrics,
        classes=data.classes,
        metric=recipe.checkpoint.metric,
        eval_account=run.eval_account,
        stages=stats.spans,
        counts=stats.counts,
        engine=stats.engine,
        compile_seconds=stepper.compile_seconds,
        graphs=(stepper.graphs, stepper.graphs_since_warm_up()),
        synthetic=recipe.data.synthetic,
    )
    if place.is_main:
        journal.write("end", step=state.step, epoch=state.epoch, **metrics.summary())
        # Curves and a confusion matrix of nothing would only be taken for real.
        write_report(report, state, figures=recipe.report.figures and not recipe.data.synthetic)
    return report


def _sides(recipe: Recipe, first_epoch: int) -> list[int]:
    """The resolutions from an epoch on, in the order in which they come."""
    return list(dict.fromkeys(epoch_resolution(recipe, epoch) for epoch in range(first_epoch, recipe.train.epochs)))


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
        create_optimizer(settings.name, groups, lr=lr, args=settings.args, device=place.device),
        world=place,
        lr=lr,
        schedule=create_schedule(schedule.pop("name"), epochs=options.epochs, **schedule),
        precision=precision,
        label_smoothing=options.label_smoothing,
        clip_norm=options.clip_norm,
        clip_value=options.clip_value,
        average=None if average is None else WeightAverage(model, decay=average.decay, warmup=average.warmup),
        compile=("default" if options.compile else None) if isinstance(options.compile, bool) else options.compile,
        seed=options.seed,
    )


def _epoch_plan(recipe: Recipe, precision: Precision, data: Data, place: World) -> EpochPlan:
    if recipe.resolution.max is not None and not takes_size(recipe.transforms.train):
        raise ConfigError(
            "resolution.max: every entry of transforms.train says its own size, so that the images cannot grow; leave "
            "the size out where it should"
        )
    return EpochPlan(
        accumulate=recipe.train.accumulate,
        train_samples=data.train_samples,
        global_batch=data.train.batch_size * place.size,
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


def _run_info(recipe: Recipe, run: Run, precision: Precision, data: Data) -> RunInfo:
    place = run.world
    return RunInfo(
        directory=str(run.directory),
        model=recipe.model.name,
        parameters=sum(item.numel() for item in run.stepper.model.parameters() if item.requires_grad),
        train_samples=data.train_samples,
        val_samples=data.val_samples,
        epochs=recipe.train.epochs,
        batches_per_epoch=len(data.train),
        first_epoch=run.state.epoch,
        first_batch=run.state.batch,
        global_batch=data.train.batch_size * place.size * recipe.train.accumulate,
        world_size=place.size,
        device=str(place.device),
        amp=precision,
        synthetic=recipe.data.synthetic,
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
