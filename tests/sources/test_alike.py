"""The same photographs are the same data set, whatever they were stored in."""

import csv
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fastload as fl


@pytest.fixture(scope="module")
def photographs(imagenet_sample):
    """Real photographs of many classes, as the folder has them: (class, file)."""
    classes = sorted(path.name for path in imagenet_sample.iterdir())
    chosen = [(name, file) for name in classes for file in sorted((imagenet_sample / name).iterdir())]
    return chosen[::7]


@pytest.fixture(scope="module")
def expected(photographs, tmp_path_factory):
    """What the folder becomes."""
    root = tmp_path_factory.mktemp("folder")
    for name, file in photographs:
        (root / "photos" / name).mkdir(parents=True, exist_ok=True)
        (root / "photos" / name / file.name).symlink_to(file)
    fl.convert(root / "photos", root / "shards", workers=2)
    return root / "shards"


def as_csv(photographs, root):
    with open(root / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filename", "class"), *((file, name) for name, file in photographs)])
    return root / "list.csv"


def as_json(photographs, root):
    lines = [json.dumps({"label": name, "path": str(file)}) for name, file in photographs]
    (root / "list.jsonl").write_text("\n".join(lines))
    return root / "list.jsonl"


def as_parquet(photographs, root):
    classes = sorted({name for name, _ in photographs})
    rows = [
        {"image": {"bytes": file.read_bytes(), "path": file.name}, "label": classes.index(name)}
        for name, file in photographs
    ]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": classes}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist(rows, pa.schema([("image", image), ("label", pa.int64())], metadata=metadata))
    pq.write_table(table, root / "data.parquet", row_group_size=20)
    return root / "data.parquet"


def as_tar(photographs, root):
    classes = sorted({name for name, _ in photographs})
    with tarfile.open(root / "data.tar", "w") as tar:
        for name, file in photographs:
            tar.add(file.resolve(), f"{file.stem}.jpg")
            info = tarfile.TarInfo(f"{file.stem}.cls")
            data = b"%d" % classes.index(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return root / "data.tar"


@pytest.mark.parametrize("stored", [as_csv, as_json, as_parquet, as_tar, None])
def test_samples_labels_and_bytes_are_those_of_the_folder(photographs, expected, tmp_path, stored):
    source = expected if stored is None else stored(photographs, tmp_path)
    fl.convert(source, tmp_path / "out", workers=2)
    with fl.open_dataset(expected) as wanted, fl.open_dataset(tmp_path / "out", verify="always") as found:
        if stored is as_tar:  # which knows classes by number alone
            assert found.classes == tuple(map(str, range(len(wanted.classes))))
        else:
            assert (found.classes, found.fingerprint) == (wanted.classes, wanted.fingerprint)
        for number in range(len(photographs)):
            assert (found[number].image, found[number].label) == (wanted[number].image, wanted[number].label)
