"""A compiled network: one graph for each resolution, made before training, and none in the middle of it."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file

from fastload.errors import ConfigError
from fastload.recipe import parse_recipe
from fastload.train import Progress, train
from fastload.train.compiling import compile_network, graphs_compiled, uses_cuda_graphs
from fastload.train.distributed import World
from fastload.train.model import create_model
from fastload.train.optimizer import create_optimizer, decay_groups
from fastload.train.stepper import Stepper
from fastload.train.synthetic import synthetic_batch
from tests.train.small import TRAIN_IMAGES, small_recipe

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
# 60 images in batches of 16: three full ones and a rest of 12. Evaluation: 37 images, the last batch of 5.
TWO_SIDES = ("resolution={min: 32, max: 64, ramp_start: 0, ramp_end: 1}", "train.batch_size=16", "data.last_batch=pad")


@pytest.fixture
def _captured_only(monkeypatch):
    """Networks are captured and guarded by torch.compile, but their graphs run as they are: no C++ is compiled."""
    torch.compiler.reset()
    monkeypatch.setattr(
        "fastload.train.stepper.compile_network",
        lambda network, mode: torch.compile(network, dynamic=False, backend="eager"),
    )
    yield
    torch.compiler.reset()


class CountGraphs(Progress):
    def __init__(self):
        self.after_batch, self.after_epoch, self.messages = [], [], []

    def batch(self, info):
        self.after_batch.append(graphs_compiled())

    def epoch(self, info):
        self.after_epoch.append(graphs_compiled())

    def message(self, text, details):
        self.messages.append(text)


@pytest.mark.usefixtures("_captured_only")
def test_every_resolution_is_compiled_before_the_first_batch_and_nothing_after(images, tmp_path):
    counts, before = CountGraphs(), graphs_compiled()
    recipe = small_recipe(images, tmp_path / "run", "train.compile=true", "eval.flip=true", *TWO_SIDES)
    report = train(recipe, progress=counts)
    assert report.graphs == (2, 0)
    assert report.compile_seconds > 0
    assert set(counts.after_batch) == set(counts.after_epoch) == {before + 2}
    assert report.train_images == 2 * TRAIN_IMAGES
    assert any("compiled 2 graphs" in text for text in counts.messages)


@pytest.mark.usefixtures("_captured_only")
def test_more_resolutions_than_torch_keeps_by_itself_have_a_graph_each(images, tmp_path):
    many = "resolution={min: 16, max: 56, ramp_start: 0, ramp_end: 10, multiple: 4}"
    recipe = small_recipe(images, tmp_path / "run", "train.compile=default", many, "train.epochs=11", "eval.every=11")
    report = train(recipe)
    assert report.graphs == (11, 0)


@pytest.mark.usefixtures("_captured_only")
def test_compiling_beforehand_changes_nothing(images, tmp_path):
    batch_norm = ("model.args={width: 8, blocks: [1, 1], dropout: 0.2}", "train.ema.decay=0.9", *TWO_SIDES)
    train(small_recipe(images, tmp_path / "plain", *batch_norm))
    train(small_recipe(images, tmp_path / "compiled", "train.compile=true", *batch_norm))
    for file in ("model.safetensors", "ema.safetensors"):
        plain, compiled = (load_file(tmp_path / name / "checkpoints" / "last" / file) for name in ("plain", "compiled"))
        for key, value in plain.items():
            assert torch.allclose(compiled[key], value, atol=1e-6), key


@pytest.mark.usefixtures("_captured_only")
def test_a_resumed_run_compiles_what_is_still_to_come(images, tmp_path):
    train(small_recipe(images, tmp_path / "run", "train.compile=true", "train.epochs=2", *TWO_SIDES))
    recipe = small_recipe(
        images, tmp_path / "run", "train.compile=true", "train.epochs=2", "checkpoint.resume=auto", *TWO_SIDES
    )
    assert train(recipe).graphs == (0, 0)


def test_gradients_that_stay_where_they_are_give_the_same_steps(monkeypatch):
    """As CUDA graphs need it: gradients in memory of their own, which is zeroed and added to."""
    weights = []
    for keeps in (False, True):
        torch.manual_seed(0)
        model = create_model("resnet_tiny", num_classes=3, args={"width": 8, "blocks": [1, 1]})
        optimizer = create_optimizer("SGD", decay_groups(model, weight_decay=0.0), lr=0.1, args={"momentum": 0.9})
        stepper = Stepper(model, optimizer, world=ALONE, lr=0.1, schedule=lambda epoch: 1.0)
        monkeypatch.setattr(stepper, "_keep_gradients", keeps)
        stepper.begin_epoch()
        batch = synthetic_batch(
            4, 32, num_classes=3, dtype=torch.float32, channels_last=True, device=torch.device("cpu")
        )
        places = []
        for step in range(3):
            stepper.begin_step(0.0)
            for part in range(2):
                stepper.accumulate(batch, number=2 * step + part, total=8, last=part == 1)
            stepper.finish_step()
            places.append([parameter.grad.data_ptr() for parameter in model.parameters()])
        assert not keeps or places[0] == places[1] == places[2]
        weights.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_which_modes_replay_cuda_graphs():
    cuda = torch.device("cuda", 0)
    assert [uses_cuda_graphs(mode, cuda) for mode in (None, "default", "reduce-overhead", "max-autotune")] == [
        False,
        False,
        True,
        True,
    ]
    assert not uses_cuda_graphs("max-autotune-no-cudagraphs", cuda)
    assert not uses_cuda_graphs("reduce-overhead", torch.device("cpu"))


@pytest.mark.parametrize("value", ["true", "false", "default", "reduce-overhead", "max-autotune-no-cudagraphs"])
def test_how_to_compile_is_a_switch_or_a_mode(value):
    parse_recipe({"data": {"train": "a", "val": "b"}}, [f"train.compile={value}"])


def test_an_unknown_mode_is_one_clear_error():
    with pytest.raises(ConfigError, match=r"train\.compile.*fastest"):
        parse_recipe({"data": {"train": "a", "val": "b"}}, ["train.compile=fastest"])


@pytest.mark.parametrize(
    ("name", "args", "fused"),
    [
        ("SGD", {"momentum": 0.9}, True),
        ("AdamW", {}, True),
        ("SGD", {"foreach": True}, False),
        ("AdamW", {"fused": False}, False),
        ("RMSprop", {}, False),
    ],
)
def test_the_fused_optimiser_is_taken_on_cuda_unless_another_is_asked_for(name, args, fused):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.0}]
    on_cuda = create_optimizer(name, groups, lr=0.1, args=args, device=torch.device("cuda", 0))
    assert bool(on_cuda.defaults.get("fused")) is fused
    on_cpu = create_optimizer(name, groups, lr=0.1, args=args, device=torch.device("cpu"))
    assert not on_cpu.defaults.get("fused")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_run_is_close_to_an_eager_one(images, tmp_path, mode):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch.compiler.reset()
    train(small_recipe(images, tmp_path / "eager", *TWO_SIDES))
    report = train(small_recipe(images, tmp_path / "compiled", f"train.compile={mode}", *TWO_SIDES))
    assert report.graphs == (2, 0)
    eager, compiled = (
        load_file(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("eager", "compiled")
    )
    assert all(torch.allclose(eager[key].float(), compiled[key].float(), atol=1e-3) for key in eager)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune-no-cudagraphs"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gpu_learns_with_compiled_graphs(images, tmp_path, mode, accumulate):
    torch.compiler.reset()
    report = train(
        small_recipe(
            images,
            tmp_path / "run",
            "train.device=cuda",
            f"train.compile={mode}",
            f"train.accumulate={accumulate}",
            "train.epochs=8",
            *TWO_SIDES,
        )
    )
    assert report.top1 > 0.9
    assert report.graphs == (2, 0)


def test_the_real_compile_takes_the_mode(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "compile", lambda network, **options: asked.update(options) or network)
    compile_network(torch.nn.Identity(), "reduce-overhead")
    assert asked == {"dynamic": False, "mode": "reduce-overhead"}
