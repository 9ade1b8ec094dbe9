"""What is made of a stored run: the page, README's table and the plot."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import report

LOADERS = {
    "torch-pil": ([4.0, 5.0, 6.0], 900),
    "fastload": ([0.5, 0.5, 0.4], 350),
    "fastload-q90": ([0.25], 340),
    "ffcv-q90": ([1.0], 650),
    "a loader that is no more": ([2.0], 400),
}


@pytest.fixture
def run():
    loader = {
        "pipeline": "crop & flip",
        "batch_size": 64,
        "threads": 2,
        "settings": "defaults",
        "start_seconds": 1.0,
        "peak_rss_mib": 1000,
        "torch_rss_mib": 500,
        "torch_memory_mib": 300,
        "check": {"mean_difference": 0.17},
    }
    machine = {"processor": "P", "family": "1/2", "cores": 2, "memory_gib": 4, "vector_units": [], "system": "S"}
    stored = {
        "datetime": "2026-01-02T03:04:05",
        "command": "pytest",
        "corpus": {"source": "pictures", "photographs": 4, "repeats": 2, "mean_bytes": 114_000, "digest": "0"},
        "absent": {"ffcv-original": ["ffcv"]},
        "commit_info": {},
        "load_before": 0.1,
        "machine_info": machine | {"python": "3.11", "versions": {"numpy": "2"}},
        "benchmarks": [
            {
                "group": "g",
                "extra_info": loader
                | {"peer": peer, "cpu_ms_per_image": cpu, "images_per_second": [1234.0], "memory_mib": memory},
            }
            for peer, (cpu, memory) in LOADERS.items()
        ],
    }
    return json.loads(json.dumps(stored))


def test_page(run):
    page = report.markdown(run)
    ours = page.index("| fastload | 0.500 (0.400 - 0.500) | 1.00 | 1234 | 1234 | 1000 | 350 | 50 |")
    assert ours < page.index("| torch-pil | 5.000 (4.000 - 6.000) | 10.00 | 1234 | 1234 | 1000 | 900 | 600 |")
    assert "Absent: ffcv-original (ffcv not installed)" in page


def test_short_table_compares_on_equal_bytes(run):
    lines = report.short(run).splitlines()[2:]
    assert lines == [
        "| **fastload, shards** | **0.50** | 1.0 x | 1,234 | 50 |",
        "| a loader that is no more | 2.00 | 4.0 x | 1,234 | 100 |",
        "| DataLoader + PIL + v2 | 5.00 | 10.0 x | 1,234 | 600 |",
        "| *JPEGs as FFCV encodes them* |  |  |  |  |",
        "| **fastload, shards** | **0.25** | 1.0 x | 1,234 | 40 |",
        "| FFCV | 1.00 | 4.0 x | 1,234 | 350 |",
    ]


def test_a_matrix_has_a_row_for_each_loader_and_a_column_for_each_group(run):
    for entry in run["benchmarks"]:
        entry["group"] = "train224-fp16/batch64/threads2"
        for name in ("memory_mib", "torch_memory_mib", "peak_rss_mib", "torch_rss_mib", "start_seconds"):
            del entry["extra_info"][name]
    decoder = {**run["benchmarks"][0]["extra_info"], "peer": "torch-pil", "cpu_ms_per_image": [8.0, 9.0]}
    run["benchmarks"].append({"group": "decode/batch256/threads1", "extra_info": decoder})
    lines = report.matrix(run).splitlines()[2:]
    assert lines == [
        "| Loader | train224-fp16 64, 2 | decode 256, 1 |",
        "| --- | --- | --- |",
        "| fastload | 0.50 | - |",
        "| fastload-q90 | 0.25 | - |",
        "| ffcv-q90 | 1.00 (2.0 x) | - |",
        "| torch-pil | 5.00 (10.0 x) | 8.50 |",
    ]
    assert "\n".join(lines) in report.markdown(run)


def test_plot_is_true_to_scale_and_needs_nothing_from_elsewhere(run):
    svg = report.plot(run)
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in root.iter(f"{space}rect") if "bar" in bar.get("class")]
    widths = [float(bar.get("width")) for bar in bars]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 4, 10, 0.5, 2], rel=0.01)
    assert [("ours" in bar.get("class")) for bar in bars] == [True, False, False, True, False]
    longest = [line for line in root.iter(f"{space}line")][2]
    scale = widths[0] / 0.5
    assert float(longest.get("x2")) - float(longest.get("x1")) == pytest.approx(2 * scale, rel=0.01)
    assert float(longest.get("x2")) < float(root.get("width")) - 100  # room for the figures behind it
    assert "crop & flip" in "".join(text.text or "" for text in root.iter(f"{space}text"))
    assert "prefers-color-scheme: dark" in svg
    assert "url(" not in svg


def test_readme_is_renewed_between_its_marks(run, tmp_path):
    (tmp_path / "README.md").write_text("before\n\n<!-- benchmark: begin -->\nold\n<!-- benchmark: end -->\n\nafter\n")
    source = tmp_path / "2026-01-02-main.json"
    source.write_text(json.dumps(run))
    for _ in range(2):
        report.readme(run, source, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n\n<!-- benchmark: begin -->\n")
    assert text.endswith("<!-- benchmark: end -->\n\nafter\n")
    assert "old" not in text
    assert text.count(report.short(run)) == 1
    assert "crop & flip, batches of 64, 2 threads or worker processes, 4 photographs of pictures (mean 114 KB)" in text
    assert "(benchmarks/results/2026-01-02-main.md)" in text
    assert (tmp_path / "benchmarks" / "results" / "loaders.svg").read_text() == report.plot(run)


def test_what_is_missing_is_said(run, tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(SystemExit, match="lacks the lines <!-- benchmark: begin -->"):
        report.readme(run, tmp_path / "run.json", tmp_path / "README.md")
    with pytest.raises(SystemExit, match=r"no group 'x', choose among \['g'\]"):
        report.short(run, "x")


def test_readme_of_the_project_has_the_marks():
    text = (report.REPOSITORY / "README.md").read_text()
    assert text.count("<!-- benchmark: begin -->") == text.count("<!-- benchmark: end -->") == 1
