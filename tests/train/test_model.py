"""Networks: blur, pretrained weights, frozen parameters, decay groups, optimisers."""

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from fastload.errors import ConfigError
from fastload.train.model import apply_blurpool, create_model, model_names, set_training_mode
from fastload.train.optimizer import create_optimizer, decay_groups, optimizer_names

TINY = {"width": 8, "blocks": [1, 1]}
WIDE = {"width": 16, "blocks": [1, 1]}


def test_blur_goes_before_the_strided_convolutions_of_ffcvs_resnet50():
    model = torchvision.models.resnet50()
    strided = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1 and module.in_channels >= 16
    }
    assert apply_blurpool(model) == len(strided) == 6  # conv2 and the shortcut of the first block of three stages
    names = set(model.state_dict())
    assert {f"{name}.conv.weight" for name in strided} <= names
    assert {f"{name}.blur_filter" for name in strided} <= names
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_blur_is_a_binomial_filter():
    conv = nn.Conv2d(16, 1, 1, stride=2, bias=False)
    nn.init.constant_(conv.weight, 1.0 / 16)
    box = nn.Sequential(conv)
    apply_blurpool(box)
    spike = torch.zeros(1, 16, 5, 5)
    spike[:, :, 2, 2] = 16.0
    assert torch.equal(box(spike)[0, 0], torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    spike = torch.zeros(1, 16, 5, 5)
    spike[:, :, 1, 1] = 16.0
    assert torch.equal(box(spike)[0, 0, :2, :2], torch.tensor([[1.0, 1.0], [1.0, 1.0]]))


def test_blur_without_anything_to_blur_is_refused():
    with pytest.raises(ConfigError, match="no strided convolution"):
        create_model("resnet_tiny", num_classes=2, args={"width": 8, "blocks": [1]}, blurpool=True)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_torchvision_models_by_name(name):
    model = create_model(name, num_classes=7).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert model(torch.zeros(1, 3, 64, 64)).is_contiguous()
    weights = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_every_torchvision_classifier_is_offered():
    assert set(torchvision.models.list_models(module=torchvision.models)) < set(model_names())


def test_wrong_names_and_arguments_say_what_is_nearest():
    with pytest.raises(ConfigError, match=r"model\.name.*did you mean resnet50"):
        create_model("resnet5O", num_classes=2)
    with pytest.raises(ConfigError, match=r"model\.args\.widht.*did you mean width"):
        create_model("resnet_tiny", num_classes=2, args={"widht": 3})
    with pytest.raises(ConfigError, match=r"model\.args: resnet18 does not take"):
        create_model("resnet18", num_classes=2, args={"no_such": 3})
    with pytest.raises(ConfigError, match="multiple of 8"):
        create_model("resnet_tiny", num_classes=2, args={"width": 3})


@pytest.mark.parametrize("form", ["safetensors", "pth", "wrapped"])
def test_pretrained_weights_from_a_file_leave_another_head_alone(tmp_path, form):
    torch.manual_seed(1)
    trained = create_model("resnet_tiny", num_classes=10, args=WIDE)
    state = {key: value.contiguous() for key, value in trained.state_dict().items()}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    elif form == "pth":
        torch.save(state, path)
    else:
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    for classes in (10, 4):
        loaded = create_model("resnet_tiny", num_classes=classes, args=WIDE, pretrained=str(path), blurpool=True)
        assert torch.equal(loaded.stem[0].weight, trained.stem[0].weight)
        assert torch.equal(loaded.stages[1].conv1.conv.weight, trained.stages[1].conv1.weight)
        assert loaded.fc.weight.shape[0] == classes
        if classes == 10:
            assert torch.equal(loaded.fc.weight, trained.fc.weight)


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"nothing": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"does not fit the model.*missing"):
        create_model("resnet_tiny", num_classes=2, args=TINY, pretrained=str(path))
    path.write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match="no readable weights"):
        create_model("resnet_tiny", num_classes=2, args=TINY, pretrained=str(path))
    with pytest.raises(ConfigError, match="there is no file"):
        create_model("resnet_tiny", num_classes=2, args=TINY, pretrained=str(tmp_path / "none.pth"))


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    import pickle

    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps({"model": Trap()}))
    with pytest.raises(ConfigError, match="no readable weights"):
        create_model("resnet_tiny", num_classes=2, args=TINY, pretrained=str(path))
    assert not (tmp_path / "sprung").exists()


def test_frozen_parameters_and_their_norms_stay():
    model = create_model("resnet18", num_classes=3, freeze=["conv1.*", "bn1.*", "layer1.*"])
    assert not model.layer1[0].conv1.weight.requires_grad
    assert model.layer2[0].conv1.weight.requires_grad
    set_training_mode(model)
    assert not model.bn1.training
    assert not model.layer1[1].bn2.training
    assert model.layer2[0].bn1.training
    before = model.bn1.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.bn1.running_mean, before)
    with pytest.raises(ConfigError, match=r"model\.freeze: no parameter is called"):
        create_model("resnet18", num_classes=3, freeze=["layer9.*"])
    with pytest.raises(ConfigError, match="nothing is left"):
        create_model("resnet18", num_classes=3, freeze=["*"])


def test_decay_groups_are_ffcvs_for_resnet50():
    model = torchvision.models.resnet50()
    apply_blurpool(model)
    everything = dict(model.named_parameters())
    bn_params = [id(v) for k, v in everything.items() if "bn" in k]
    other_params = [id(v) for k, v in everything.items() if "bn" not in k]
    groups = decay_groups(model, weight_decay=1e-4, decay_norm=True, decay_bias=True, no_decay=["*bn*"])
    assert [group["weight_decay"] for group in groups] == [0.0, 1e-4]
    assert [[id(p) for p in group["params"]] for group in groups] == [bn_params, other_params]
    assert id(everything["layer1.0.downsample.1.weight"]) in other_params


def test_decay_leaves_out_norms_and_biases_unless_asked():
    model = create_model("resnet_tiny", num_classes=3, args=TINY)
    without, with_decay = decay_groups(model, weight_decay=0.1)
    assert all(p.ndim == 1 for p in without["params"])
    assert all(p.ndim > 1 for p in with_decay["params"])
    assert len(without["params"]) + len(with_decay["params"]) == len(list(model.parameters()))
    (everything,) = decay_groups(model, weight_decay=0.1, decay_norm=True, decay_bias=True)
    assert len(everything["params"]) == len(list(model.parameters()))
    with pytest.raises(ConfigError, match="no parameter is called"):
        decay_groups(model, weight_decay=0.1, no_decay=["*nothing*"])


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimiser_of_torch_takes_a_step(name):
    # Muon is for matrices only.
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = create_optimizer(name, [{"params": [parameter], "weight_decay": 0.0}], lr=0.1)
    parameter.grad = torch.ones(2, 2)
    optimizer.step()
    assert not torch.equal(parameter, torch.ones(2, 2))


def test_optimisers_refuse_what_torch_does_not_know():
    groups = [{"params": [nn.Parameter(torch.ones(2))], "weight_decay": 0.1}]
    with pytest.raises(ConfigError, match=r"optimizer\.args\.momentun.*did you mean momentum"):
        create_optimizer("SGD", groups, lr=0.1, args={"momentun": 0.9})
    with pytest.raises(ConfigError, match=r"optimizer\.name.*did you mean AdamW"):
        create_optimizer("AdmW", groups, lr=0.1)
    with pytest.raises(ConfigError, match=r"optimizer\.args\.lr: say it as optimizer\.lr"):
        create_optimizer("SGD", groups, lr=0.1, args={"lr": 0.1})
    with pytest.raises(ConfigError, match=r"optimizer\.args: SGD does not take"):
        create_optimizer("SGD", groups, lr=0.1, args={"momentum": -1})
    with pytest.raises(ConfigError, match=r"weight_decay: Rprop has none"):
        create_optimizer("Rprop", groups, lr=0.1)
    assert create_optimizer("AdamW", groups, lr=0.1, args={"betas": [0.8, 0.9]}).defaults["betas"] == (0.8, 0.9)
