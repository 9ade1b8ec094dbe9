"""The schema of a recipe: frozen sections with a description, a type and a range for every key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fastload.recipe.schedules import Cosine, Schedule
from fastload.recipe.section import Section

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Positive = Annotated[int, Field(ge=1)]
# ImageNet needs 4 to 100; the bound only catches a batch size that was written into the wrong key.
Size = Annotated[int, Field(ge=8, le=4096)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
TransformEntry = str | dict[str, dict[str, Any] | None]


class Data(Section):
    """What is read, and how; or synthetic data, which need no data set."""

    train: str
    """Data set to train on: a folder that `fastload convert` wrote or its URL, or a folder of images with a folder per
    class."""
    val: str
    """Data set to evaluate on; its classes must be those of `train`."""
    num_workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Decoding threads per process; null takes what the machine offers. Changes the speed, never the result."""
    engine: Literal["auto", "cpu", "dali", "hybrid"] = "auto"
    """What decodes and resizes."""
    on_error: Literal["raise", "skip"] = "raise"
    """A sample that cannot be read stops the training, or is replaced by another one and listed in the report."""
    shuffle: Literal[True, "local"] = True
    """Order of the training samples: uniform over the data set, or local (shards, then windows) for remote storage."""
    last_batch: Literal["drop", "pad"] = "drop"
    """The incomplete last training batch is dropped, or filled up with samples that do not count in the loss."""
    repeats: Annotated[int, Field(ge=1, le=1024)] = 1
    """Repeated augmentation: each training sample comes this many times in a row, drawn anew each time. An epoch has as
    many images as without, and so fewer samples."""
    prefetch: Annotated[int, Field(ge=1, le=64)] = 2
    """Batches that are prepared ahead of the training loop."""
    verify: Literal["first", "always", "never"] = "first"
    """When the bytes of a sample are checked against the checksum in the index."""
    cache_dir: str | None = None
    """Folder that keeps what was fetched from URLs, for this and other processes; null keeps no samples."""
    cache_bytes: Positive | None = None
    """What all files in `cache_dir` may take together; null leaves a twentieth of the disk free."""
    synthetic: bool = False
    """Train on random pixels and labels that lie on the device and open neither `train` nor `val`: how fast the network
    can be at all. Such a run's accuracies mean nothing."""
    synthetic_samples: Positive = 65_536
    """Samples of a synthetic epoch. Without `model.num_classes` they have 1,000 classes."""


class Transforms(Section):
    """What happens to an image. Conversion and normalisation follow by themselves, before a MixUp or CutMix."""

    train: tuple[TransformEntry, ...] = ("RandomResizedCrop", "RandomHorizontalFlip")
    """Transforms of fastload.transforms, `Name` or `{Name: {argument: value}}`. One that needs a `size` and gives none
    takes the resolution of the epoch."""
    eval: tuple[TransformEntry, ...] | None = None
    """As `train`, with `size` from `eval.size`; null is Resize(eval.size / eval.crop_ratio), CenterCrop(eval.size)."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from red, green and blue, in units of 0 to 1."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        IMAGENET_STD
    )
    """Divisor of red, green and blue after `mean`, in units of 0 to 1."""


class Resolution(Section):
    """Side of the training images in pixels, constant or growing with the epochs."""

    min: Size = 224
    """Side up to and including epoch `ramp_start`."""
    max: Size | None = None
    """Side from epoch `ramp_end` on; null is `min`, that is, no progressive resizing."""
    ramp_start: NotNegative = 0
    """Last epoch (counted from 0) at the side `min`."""
    ramp_end: NotNegative = 0
    """First epoch at the side `max`."""
    multiple: Positive = 32
    """Sides between are linear in the epoch and rounded to a multiple of this."""

    @model_validator(mode="after")
    def _ordered(self) -> Resolution:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max must be at least min ({self.min}), got {self.max}")
        if self.ramp_end < self.ramp_start:
            raise ValueError(f"ramp_end must be at least ramp_start ({self.ramp_start}), got {self.ramp_end}")
        return self


class Model(Section):
    """The network."""

    name: str = "resnet50"
    """`resnet_tiny` (small, for tests and two cores) or a classification model of torchvision.models."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the model's constructor, such as `dropout`."""
    num_classes: Positive | None = None
    """Outputs of the classifier; null takes the number of classes of the training data."""
    pretrained: str | None = None
    """Weights to begin with: `hub` for torchvision's best, or a .safetensors or .pth file. A classifier for another
    number of classes begins anew."""
    freeze: tuple[str, ...] = ()
    """Patterns (`layer1.*`) of the parameter names that are not trained; frozen batch norms keep their statistics."""
    blurpool: bool = False
    """Blur (3 x 3 binomial) before every strided convolution with at least 16 input channels."""
    channels_last: bool = True
    """Keep weights and activations in NHWC memory, and have batches delivered in it; else NCHW."""


class Optimizer(Section):
    """How weights follow gradients."""

    name: str = "SGD"
    """An optimiser of torch.optim."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate; the schedule multiplies it."""
    lr_batch: Positive | None = None
    """Global batch that `lr` is meant for: another one scales the rate linearly. null takes `lr` as it stands."""
    weight_decay: NotNegative = 1e-4
    """Weight decay of the parameters that have it."""
    decay_norm: bool = False
    """Whether weights of normalisation layers decay."""
    decay_bias: bool = False
    """Whether biases decay."""
    no_decay: tuple[str, ...] = ()
    """Patterns (`*bn*`) of further parameter names that do not decay."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimiser, such as `momentum`."""


class Ema(Section):
    """Exponential moving average of the weights; where it is on, it is what is evaluated."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the old average that stays at each step."""
    warmup: bool = True
    """Begin with a shorter memory: after t steps the decay is at most (1 + t) / (10 + t)."""


class EarlyStopping(Section):
    """When to stop before the last epoch."""

    patience: Positive = 5
    """Evaluations without a better result before the training stops."""
    min_delta: NotNegative = 0.0
    """What counts as better: at least this much, in the units of `checkpoint.metric`."""


class Train(Section):
    """The loop."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 16
    """Passes over the training data."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Images per process in one forward pass. The global batch is this x processes x `accumulate`."""
    accumulate: Positive = 1
    """Forward passes whose gradients are averaged into one step."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides the initial weights, the order of the samples and every augmentation."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto takes a GPU where there is one; with torchrun each process takes the one of its local rank."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that torch computes with when it trains on the CPU; null is OMP_NUM_THREADS, or half of the cores: the
    other half decodes."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Autocast: auto is bf16 (fp16 with loss scaling on older cards) on CUDA and off on the CPU."""
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = False
    """Compile the network with torch.compile (needs a C++ compiler), before training begins and once for each
    resolution. true is default; reduce-overhead and max-autotune replay CUDA graphs, for small batches."""
    deterministic: bool = False
    """Only deterministic CUDA kernels: equal seeds then give equal bits, more slowly. The CPU needs no switch."""
    sync_batchnorm: bool = False
    """Batch norm over all processes (CUDA only)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient of all parameters together."""
    clip_value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of an element of a gradient."""
    ema: Ema | None = None
    """Average of the weights."""
    early_stopping: EarlyStopping | None = None
    """Stopping before the last epoch."""


class Eval(Section):
    """The evaluation."""

    size: Size = 224
    """Side of the evaluated images in pixels."""
    crop_ratio: Annotated[float, Field(gt=0, le=1)] = 0.875
    """Side of the central crop over the shorter side of the resized image."""
    flip: bool = False
    """Average the outputs for the image and its mirror image."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Images per process; null is `train.batch_size`."""
    every: Positive = 1
    """Evaluate after every so many epochs, and always after the last."""


class Checkpoint(Section):
    """What is kept of a run. `checkpoints/last` and `checkpoints/best` stand in `report.directory`."""

    every_steps: Positive | None = None
    """Write `last` after every so many steps also within an epoch."""
    every_epochs: Positive = 1
    """Write `last` after every so many epochs, and always after the last."""
    metric: Literal["top1", "top5", "f1", "loss"] = "top1"
    """What the best epoch is best at, and what early stopping watches."""
    resume: str = "never"
    """`never` begins anew; `auto` goes on with `last` if there is one; a path goes on with that checkpoint."""


class Report(Section):
    """What is written about a run."""

    directory: str = "runs/latest"
    """Folder of the run: log.jsonl, report.json, figures, checkpoints."""
    overwrite: bool = False
    """Begin anew in a folder that holds another run, whose files are removed."""
    log_every: Positive = 50
    """Steps between two lines of the log."""
    figures: bool = True
    """Draw the confusion matrix and the loss curve as PNG."""
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """Write TensorBoard events too; auto does where the package is installed."""


class Recipe(Section):
    """One training run, complete: everything that decides its result, and where it is written."""

    data: Data
    """Section: what is read."""
    transforms: Transforms = Transforms()
    """Section: what happens to an image."""
    resolution: Resolution = Resolution()
    """Section: side of the training images."""
    model: Model = Model()
    """Section: the network."""
    optimizer: Optimizer = Optimizer()
    """Section: how weights follow gradients."""
    schedule: Schedule = Cosine(name="cosine")
    """Section: the learning rate over the epochs."""
    train: Train = Train()
    """Section: the loop."""
    eval: Eval = Eval()
    """Section: the evaluation."""
    checkpoint: Checkpoint = Checkpoint()
    """Section: what is kept."""
    report: Report = Report()
    """Section: what is written."""
