"""The same photographs in every format that a loader reads, made once and kept in a cache folder.

Every photograph becomes a class of its own, so that a label names one photograph and a check can tell which reference a
delivered image must equal. Photographs are stored several times over where there are few, so that an epoch is long
enough to be timed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
_SHARD_SAMPLES = 256
_FORMAT = 3  # raise when what is written changes
ANNOTATIONS = "annotations.json"

# Boxes (n, 4; XYXY in pixels), category ids (n,), and the width and height of the image.
Annotated = tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A set of photographs, ready in every format on demand.

    Attributes:
        root: Folder in the cache.
        source: Name of the folder that the photographs came from, or "synthetic".
        photographs: How many different ones.
        repeats: How often each is stored.
        mean_bytes: Mean size of a JPEG.
        digest: Of all bytes, in order.
    """

    root: Path
    source: str
    photographs: int
    repeats: int
    mean_bytes: int
    digest: str

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        return self.photographs * self.repeats

    def form(self, name: str) -> Path:
        """The folder or file of one format (see FORMS), made now if it is not there yet."""
        target = self.root / name
        if not target.exists():
            # In a process of its own: the peers' writers import and start a great deal.
            command = [sys.executable, "-m", "benchmarks.harness.datasets", str(self.root), name]
            made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            if made.returncode != 0:
                raise RuntimeError(f"could not write the data as {name!r}:\n{made.stderr[-3000:]}")
        return target

    def photograph(self, label: int, form: str) -> Path:
        """The file of photograph ``label`` as the loaders of ``form`` read it."""
        folder = "folder-q90" if form.endswith("-q90") else "folder"
        return self.form(folder) / f"{label:05d}" / "0.jpg"

    @property
    def boxes(self) -> list[Annotated]:
        """Boxes, category ids and size of each photograph, where the corpus has any."""
        return read_boxes(self.root / ANNOTATIONS)[: self.photographs]

    def summary(self) -> dict[str, object]:
        """What a result says about its data; without the machine's paths."""
        return {key: value for key, value in asdict(self).items() if key != "root"} | {"samples": self.samples}


def open_corpus(source: Path | None, cache: Path, samples: int) -> Corpus:
    """The photographs below ``source`` (or rendered ones where it is None) as a corpus of at least ``samples``."""
    jpegs = _rendered(min(400, samples)) if source is None else _found(source)
    digest = hashlib.sha256()
    for jpeg in jpegs:
        digest.update(len(jpeg).to_bytes(8, "little") + jpeg)
    repeats = max(1, -(-samples // len(jpegs)))
    root = cache / f"{digest.hexdigest()[:12]}-x{repeats}-v{_FORMAT}"
    corpus = Corpus(
        root=root,
        source="synthetic" if source is None else source.name,
        photographs=len(jpegs),
        repeats=repeats,
        mean_bytes=sum(map(len, jpegs)) // len(jpegs),
        digest=digest.hexdigest()[:16],
    )
    if not (root / "corpus.json").exists():
        _lay_out(jpegs, corpus)
        (root / "corpus.json").write_text(json.dumps(corpus.summary()))
    return corpus


def open_detection_corpus(source: Path, cache: Path, samples: int) -> Corpus:
    """COCO's photographs with boxes (``images``, ``annotations/instances.json``), at least ``samples``; as open_corpus.

    Beside the folder of images lies ``annotations.json`` in COCO's layout; image n shows photograph n % photographs.
    """
    table = json.loads((source / "annotations" / "instances.json").read_text())
    names = sorted(row["file_name"] for row in table["images"])
    photograph = {row["id"]: names.index(row["file_name"]) for row in table["images"]}
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    jpegs = [(source / "images" / name).read_bytes() for name in names]
    for jpeg in jpegs:
        digest.update(jpeg)
    repeats = max(1, -(-samples // len(jpegs)))
    corpus = Corpus(
        root=cache / f"{digest.hexdigest()[:12]}-x{repeats}-v{_FORMAT}",
        source=source.name,
        photographs=len(jpegs),
        repeats=repeats,
        mean_bytes=sum(map(len, jpegs)) // len(jpegs),
        digest=digest.hexdigest()[:16],
    )
    if not (corpus.root / "corpus.json").exists():
        _lay_out(jpegs, corpus)
        sizes = [Image.open(BytesIO(jpeg)).size for jpeg in jpegs]
        numbers = range(corpus.samples)
        rows = [row for row in table["annotations"] if not row.get("iscrowd")]
        annotations = {
            "images": [
                {
                    "id": number,
                    "file_name": f"{number % len(jpegs):05d}/{number // len(jpegs)}.jpg",
                    "width": sizes[number % len(jpegs)][0],
                    "height": sizes[number % len(jpegs)][1],
                }
                for number in numbers
            ],
            "annotations": [
                row | {"id": turn * len(rows) + place, "image_id": photograph[row["image_id"]] + turn * len(jpegs)}
                for turn in range(repeats)
                for place, row in enumerate(rows)
            ],
            "categories": table["categories"],
        }
        (corpus.root / ANNOTATIONS).write_text(json.dumps(annotations))
        (corpus.root / "corpus.json").write_text(json.dumps(corpus.summary()))
    return corpus


@functools.cache
def read_boxes(annotations: Path) -> list[Annotated]:
    """What an ``annotations.json`` says of each image, in order."""
    table = json.loads(annotations.read_text())
    boxes: list[list[list[float]]] = [[] for _ in table["images"]]
    labels: list[list[int]] = [[] for _ in table["images"]]
    for row in table["annotations"]:
        left, top, width, height = row["bbox"]
        boxes[row["image_id"]].append([left, top, left + width, top + height])
        labels[row["image_id"]].append(row["category_id"])
    return [
        (np.array(corners, np.float32).reshape(-1, 4), np.array(categories, np.int64), (row["width"], row["height"]))
        for corners, categories, row in zip(boxes, labels, table["images"], strict=True)
    ]


def _lay_out(jpegs: Sequence[bytes], corpus: Corpus) -> None:
    partial = _partial(corpus.root / "folder")
    for label, jpeg in enumerate(jpegs):
        (partial / f"{label:05d}").mkdir(parents=True)
        for repeat in range(corpus.repeats):
            (partial / f"{label:05d}" / f"{repeat}.jpg").write_bytes(jpeg)
    partial.rename(corpus.root / "folder")


def _found(source: Path) -> list[bytes]:
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise ValueError(f"{source} holds no JPEG files; name a folder with --data")
    return [path.read_bytes() for path in paths]


def _rendered(count: int) -> list[bytes]:
    """Noise with the spectrum, sizes and subsampling of photographs, where none are at hand. Seeded."""
    random = np.random.default_rng(0)
    jpegs = []
    for number in range(count):
        height, width = int(random.integers(240, 420)), int(random.integers(340, 560))
        image = np.zeros((height, width, 3), np.float32)
        for octave in range(1, 8):
            coarse = random.normal(0, 60 / 1.6**octave, (2**octave, 2**octave, 3)).astype(np.float32)
            planes = [
                Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)
            ]
            image += np.stack([np.asarray(plane) for plane in planes], axis=-1)
        image += random.normal(0, 6, image.shape)
        file = BytesIO()
        pixels = Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8))
        pixels.save(file, "JPEG", quality=92, subsampling=2 if number % 4 == 0 else 0)
        jpegs.append(file.getvalue())
    return jpegs


def _samples(folder: Path) -> Iterator[tuple[bytes, int]]:
    for path in sorted(folder.glob("*/*.jpg")):
        yield path.read_bytes(), int(path.parent.name)


def _partial(target: Path) -> Path:
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    if partial.exists():
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
    return partial


def _write_tar(folder: Path, target: Path) -> None:
    """Plain WebDataset shards, written by the standard library."""
    target.mkdir()
    shard: tarfile.TarFile | None = None
    for number, (jpeg, label) in enumerate(_samples(folder)):
        if number % _SHARD_SAMPLES == 0:
            if shard is not None:
                shard.close()
            shard = tarfile.open(target / f"{number // _SHARD_SAMPLES:06d}.tar", "w", format=tarfile.USTAR_FORMAT)
        for extension, payload in (("jpg", jpeg), ("cls", str(label).encode())):
            member = tarfile.TarInfo(f"{number:08d}.{extension}")
            member.size = len(payload)
            shard.addfile(member, BytesIO(payload))
    if shard is not None:
        shard.close()


def _write_fastload(folder: Path, target: Path) -> None:
    import fastload

    annotations = folder.parent / ANNOTATIONS
    if annotations.exists():
        fastload.convert(str(annotations), str(target), images=str(folder))
    else:
        fastload.convert(str(folder), str(target))


def _write_fastload_without_index(folder: Path, target: Path) -> None:
    import fastload

    fastload.convert(str(folder), str(target), seek_index=False)


def _write_fastload_tiled(folder: Path, target: Path) -> None:
    import fastload

    fastload.convert(str(folder), str(target), tiles=True)


def _write_beton(folder: Path, target: Path, *, raw: bool) -> None:
    """FFCV's format by our writer: the original JPEG bytes, which FFCV's own would encode anew, or raw pixels."""
    import fastload

    written = target.with_name(f"{target.name}.beton")
    largest = max(max(Image.open(path).size) for path in folder.glob("*/*.jpg")) if raw else None  # keeps every pixel
    fastload.convert(str(folder), str(written), raw=raw, max_side=largest)
    written.rename(target)
    for notes in target.parent.glob(f"{written.name}.*"):
        notes.unlink()


def _write_beton_indexed(beton: Path, target: Path) -> None:
    """The same file with its seek indexes beside it, as convert leaves it."""
    from fastload.dataset.indexing import write_seek_indexes

    os.link(beton, target)
    write_seek_indexes(target)
    target.with_name(f"{target.name}.seek").rename(beton.with_name("beton-indexed.seek"))


def _write_beton_q90(folder: Path, target: Path) -> None:
    """FFCV's own writer at its own quality, from the decoded originals."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter
    from torchvision.datasets import ImageFolder

    writer = DatasetWriter(str(target), {"image": RGBImageField(write_mode="jpg"), "label": IntField()}, num_workers=2)
    writer.from_indexed_dataset(ImageFolder(str(folder)))


def _write_folder_q90(beton: Path, target: Path) -> None:
    from fastload.dataset import open_dataset

    repeat: dict[int, int] = {}
    with open_dataset(beton) as dataset:
        for sample in map(dataset.__getitem__, range(len(dataset))):
            number = repeat[sample.label] = repeat.get(sample.label, -1) + 1
            (target / f"{sample.label:05d}").mkdir(parents=True, exist_ok=True)
            (target / f"{sample.label:05d}" / f"{number}.jpg").write_bytes(sample.image)


def _litdata_sample(path: str) -> dict[str, object]:
    return {"image": Path(path).read_bytes(), "label": int(Path(path).parent.name)}


def _write_litdata(folder: Path, target: Path) -> None:
    import litdata

    paths = [str(path) for path in sorted(folder.glob("*/*.jpg"))]
    litdata.optimize(_litdata_sample, paths, output_dir=str(target), chunk_bytes="64MB", num_workers=2, verbose=False)


def _write_mds(folder: Path, target: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(target), columns={"image": "bytes", "label": "int"}, compression=None) as writer:
        for jpeg, label in _samples(folder):
            writer.write({"image": jpeg, "label": label})


# Format: (what it is made from, how).
FORMS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "tar": ("folder", _write_tar),
    "fastload": ("folder", _write_fastload),
    "beton-original": ("folder", functools.partial(_write_beton, raw=False)),
    "beton-indexed": ("beton-original", _write_beton_indexed),
    "beton-q90": ("folder", _write_beton_q90),
    "beton-raw": ("folder", functools.partial(_write_beton, raw=True)),
    "folder-q90": ("beton-q90", _write_folder_q90),
    "fastload-noindex": ("folder", _write_fastload_without_index),
    "fastload-tiled": ("folder", _write_fastload_tiled),
    "fastload-q90": ("folder-q90", _write_fastload),
    "litdata": ("folder", _write_litdata),
    "mds": ("folder", _write_mds),
}


def _make(root: Path, name: str) -> None:
    target = root / name
    made_from, write = FORMS[name]
    if not (root / made_from).exists():
        _make(root, made_from)
    partial = _partial(target)
    write(root / made_from, partial)
    partial.rename(target)


if __name__ == "__main__":
    # Under its importable name: writers that start processes of their own pickle functions of this module.
    from benchmarks.harness import datasets

    datasets._make(Path(sys.argv[1]), sys.argv[2])
