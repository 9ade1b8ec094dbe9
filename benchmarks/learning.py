"""Does it learn the right thing? One plain training loop, fed by fastload and by torchvision, several seeds each.

    python -m benchmarks.learning data.train=imagenette/train data.val=imagenette/val --seeds 0 1 2 --record imagenette

The loop knows nothing of either feed: same network, same initial weights for a seed, same optimiser, schedule and
resolutions, from the recipe. What differs is who reads, decodes, crops and flips.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks.harness import machine
from fastload import Loader
from fastload.recipe import Recipe, load_recipe
from fastload.train.images import eval_transforms, train_transforms
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer, decay_groups
from fastload.train.schedule import create_schedule, resolution_at

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run: who fed it, with which seed, and what came of it."""

    feed: str
    seed: int
    top1: float
    loss: float
    train_seconds: float
    cpu_seconds: float
    images: int


class Feed(Protocol):
    """Batches of (images, labels), float32, normalised."""

    def train(self, epoch: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...

    def val(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...

    def batches_per_epoch(self) -> int: ...


class FastloadFeed:
    """fastload.Loader with the recipe's transforms."""

    def __init__(self, recipe: Recipe, seed: int, workers: int) -> None:
        look = {"dtype": "float32", "mean": recipe.transforms.mean, "std": recipe.transforms.std}
        self._transforms = lambda size: train_transforms(recipe.transforms.train, size=size, **look)
        self._train = Loader(
            recipe.data.train,
            batch_size=recipe.train.batch_size,
            transforms=self._transforms(recipe.resolution.min),
            last_batch="drop",
            seed=seed,
            num_workers=workers,
        )
        self._val = Loader(
            recipe.data.val,
            batch_size=recipe.eval.batch_size or recipe.train.batch_size,
            transforms=eval_transforms(
                recipe.transforms.eval, size=recipe.eval.size, crop_ratio=recipe.eval.crop_ratio, **look
            ),
            shuffle=False,
            num_workers=workers,
        )

    def train(self, epoch: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self._train.set_transforms(self._transforms(size))
        self._train.set_epoch(epoch)
        yield from map(tuple, self._train)

    def val(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from map(tuple, self._val)

    def batches_per_epoch(self) -> int:
        return len(self._train)


class TorchvisionFeed:
    """ImageFolder, DataLoader with worker processes, transforms v2 on Pillow images: what most users have."""

    def __init__(self, recipe: Recipe, seed: int, workers: int) -> None:
        self._recipe = recipe
        self._workers = workers
        self._generator = torch.Generator().manual_seed(seed)
        self._trainset = torchvision.datasets.ImageFolder(recipe.data.train)
        size = recipe.eval.size
        geometry = [v2.Resize(round(size / recipe.eval.crop_ratio)), v2.CenterCrop(size)]
        self._valset = torchvision.datasets.ImageFolder(recipe.data.val, transform=self._compose(geometry))

    def train(self, epoch: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self._trainset.transform = self._compose([self._transform(e, size) for e in self._recipe.transforms.train])
        loader = DataLoader(
            self._trainset,
            batch_size=self._recipe.train.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self._workers,
            generator=self._generator,
        )
        yield from loader

    def val(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = self._recipe.eval.batch_size or self._recipe.train.batch_size
        yield from DataLoader(self._valset, batch_size=size, num_workers=self._workers)

    def batches_per_epoch(self) -> int:
        return len(self._trainset) // self._recipe.train.batch_size

    def _transform(self, entry: str | dict[str, Any], size: int) -> v2.Transform:
        ((name, arguments),) = ({entry: {}} if isinstance(entry, str) else entry).items()
        arguments = dict(arguments or {})
        if name == "RandomResizedCrop":
            arguments.setdefault("size", size)
        return getattr(v2, name)(**arguments)

    def _compose(self, geometry: Sequence[v2.Transform]) -> v2.Compose:
        look = self._recipe.transforms
        values = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(look.mean, look.std)]
        return v2.Compose([*geometry, *values])


FEEDS = {"fastload": FastloadFeed, "torchvision": TorchvisionFeed}


def learn(recipe: Recipe, name: str, seed: int, workers: int) -> Outcome:
    """Trains once. The loop is a plain one, written for this comparison."""
    feed: Feed = FEEDS[name](recipe, seed, workers)
    torch.manual_seed(seed)
    classes = len(torchvision.datasets.ImageFolder(recipe.data.val).classes)
    model = create_model(recipe.model.name, num_classes=classes, args=recipe.model.args)
    settings = recipe.optimizer
    groups = decay_groups(model, weight_decay=settings.weight_decay, no_decay=settings.no_decay)
    optimizer = create_optimizer(settings.name, groups, lr=settings.lr, args=settings.args)
    shape = recipe.schedule.model_dump()
    schedule = create_schedule(shape.pop("name"), epochs=recipe.train.epochs, **shape)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.train.label_smoothing)
    count, images_seen, seconds, cpu = feed.batches_per_epoch(), 0, 0.0, cpu_seconds()
    for epoch in range(recipe.train.epochs):
        model.train()
        began = time.perf_counter()
        for number, (images, labels) in enumerate(feed.train(epoch, side(recipe, epoch))):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * schedule(epoch + number / count)
            loss = loss_of(model(images.contiguous(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            images_seen += len(labels)
        seconds += time.perf_counter() - began
        say(f"{name}, seed {seed}: epoch {epoch + 1} of {recipe.train.epochs}, loss {loss.item():.3f}")
    cpu = cpu_seconds() - cpu
    top1, val_loss = accuracy(model, feed)
    return Outcome(
        feed=name, seed=seed, top1=top1, loss=val_loss, train_seconds=seconds, cpu_seconds=cpu, images=images_seen
    )


@torch.inference_mode()
def accuracy(model: nn.Module, feed: Feed) -> tuple[float, float]:
    """Top-1 and mean cross entropy over the evaluation data."""
    model.eval()
    hits, loss, samples = 0, 0.0, 0
    for images, labels in feed.val():
        logits = model(images.contiguous(memory_format=torch.channels_last))
        hits += int((logits.argmax(1) == labels).sum())
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        samples += len(labels)
    return hits / samples, loss / samples


def side(recipe: Recipe, epoch: int) -> int:
    """Side of the training images in an epoch."""
    ramp = recipe.resolution
    return resolution_at(
        epoch,
        smallest=ramp.min,
        largest=ramp.max,
        ramp_start=ramp.ramp_start,
        ramp_end=ramp.ramp_end,
        multiple=ramp.multiple,
    )


def cpu_seconds() -> float:
    """User and system time of this process, its finished children and its living ones."""
    own = psutil.Process().cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Mean and standard deviation of top-1 for each feed, and their difference with its standard error."""
    found: dict[str, Any] = {}
    for name in FEEDS:
        scores = [outcome.top1 for outcome in outcomes if outcome.feed == name]
        if scores:
            spread = statistics.stdev(scores) if len(scores) > 1 else None
            found[name] = {"runs": len(scores), "mean": statistics.fmean(scores), "stdev": spread}
    if len(found) == len(FEEDS) and all(item["stdev"] is not None for item in found.values()):
        ours, theirs = (found[name] for name in FEEDS)
        error = math.sqrt(sum(item["stdev"] ** 2 / item["runs"] for item in (ours, theirs)))
        found["difference"] = {"mean": ours["mean"] - theirs["mean"], "standard_error": error}
    return found


def markdown(outcomes: Sequence[Outcome], host: dict[str, Any]) -> str:
    """The table for the README."""
    lines = [
        "| Fed by | Seed | Top-1 | Loss | Training, s | CPU ms per image |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for item in sorted(outcomes, key=lambda one: (list(FEEDS).index(one.feed), one.seed)):
        cost = 1000 * item.cpu_seconds / item.images
        lines.append(
            f"| {item.feed} | {item.seed} | {100 * item.top1:.2f}% | {item.loss:.3f} | {item.train_seconds:.0f} "
            f"| {cost:.2f} |"
        )
    found = summary(outcomes)
    for name in FEEDS:
        if name in found:
            values = found[name]
            lines.append(f"| {name} | mean of {values['runs']} | {percent(values)} | | | |")
    if "difference" in found:
        values = found["difference"]
        text = f"{100 * values['mean']:+.2f} points, standard error {100 * values['standard_error']:.2f}"
        lines.append(f"\nDifference, fastload less torchvision: {text}.")
    lines.append(f"\n{host['processor']}, {host['cores']} cores, Python {host['python']}, {date.today().isoformat()}.")
    return "\n".join(lines) + "\n"


def percent(values: dict[str, Any]) -> str:
    """``80.10% (0.35)``: mean and, of several runs, standard deviation."""
    spread = "" if values["stdev"] is None else f" ({100 * values['stdev']:.2f})"
    return f"{100 * values['mean']:.2f}%{spread}"


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    """Runs every feed with every seed in turn, and keeps what is done after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="key=value of the recipe: data.train=... train.epochs=...")
    parser.add_argument("--recipe", default=str(ROOT / "recipes" / "imagenette.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--feeds", nargs="+", choices=list(FEEDS), default=list(FEEDS))
    parser.add_argument("--workers", type=int, default=2, help="threads of fastload, processes of DataLoader")
    parser.add_argument("--record", metavar="NAME", help="keep the result as benchmarks/results/DATE-learning-NAME.*")
    options = parser.parse_intermixed_args()
    recipe = load_recipe(options.recipe, options.overrides)
    host, outcomes = machine.describe(), []
    for seed in options.seeds:
        for name in options.feeds:
            outcomes.append(learn(recipe, name, seed, options.workers))
            say(f"{name}, seed {seed}: top-1 {outcomes[-1].top1:.4f}")
            if options.record:
                RESULTS.mkdir(exist_ok=True)
                stem = RESULTS / f"{date.today().isoformat()}-learning-{options.record}"
                settings = recipe.model_dump(mode="json", exclude={"data", "report", "checkpoint"})
                content = {
                    "host": host,
                    "recipe": settings,
                    "runs": [asdict(outcome) for outcome in outcomes],
                    "summary": summary(outcomes),
                }
                stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
                stem.with_suffix(".md").write_text(markdown(outcomes, host))
    print(markdown(outcomes, host))


if __name__ == "__main__":
    main()
