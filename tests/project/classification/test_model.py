import pytest
import torch

from kit.ground.errors import UserError
from kit.zoo import TimmNet, TorchvisionNet
from project.classification import CNN, TextbookCNN


@pytest.mark.parametrize("net", [CNN, TextbookCNN])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nets_of_the_project(net, channels):
    assert net(num_classes=7, in_channels=channels)(torch.rand(2, channels, 9, 14)).shape == (2, 7)


def test_number_of_parameters_of_the_textbook_net():
    assert sum(p.numel() for p in TextbookCNN(10, 1).parameters()) == 32 * 9 + 32 + 32 * 16 * 10 + 10


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "densenet121"])
@pytest.mark.parametrize("channels", [1, 4])
def test_torchvision(name, channels):
    net = TorchvisionNet(5, channels, name).eval()
    assert net(torch.rand(2, channels, 64, 96)).shape == (2, 5)
    assert net.head.weight.shape[0] == 5


def test_timm():
    net = TimmNet(5, 1, "resnet10t")
    assert net(torch.rand(2, 1, 64, 96)).shape == (2, 5)
    assert net.head.out_features == 5


@pytest.mark.parametrize(("net", "name"), [(TorchvisionNet, "resnet18"), (TimmNet, "resnet10t")])
def test_weights_from_a_file_except_the_head(net, name):
    torch.manual_seed(0)
    source = net(1000, 3, name)
    torch.save(source.net.state_dict(), "weights.pt")
    loaded, head = net(5, 3, name, weights="weights.pt"), net(5, 3, name).head
    for key, value in source.net.state_dict().items():
        own = loaded.net.state_dict()[key]
        assert own.shape[0] == 5 if own.shape != value.shape else torch.equal(own, value), key
    assert loaded.head.weight.shape == head.weight.shape


def test_wrong_weights_and_names_are_refused():
    torch.save({"a": torch.zeros(1)}, "other.pt")
    with pytest.raises(UserError, match="does not fit"):
        TorchvisionNet(5, 3, weights="other.pt")
    with pytest.raises(UserError, match=r"no file of weights at nowhere\.pt"):
        TorchvisionNet(5, 3, weights="nowhere.pt")
    for net, name in ((TorchvisionNet, "resnet19"), (TimmNet, "resnet19")):
        with pytest.raises(UserError, match="resnet19'; did you mean 'resnet"):
            net(5, 3, name)


def test_dropout_and_stochastic_depth_apply_in_training_only():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 32, 32)
    nets = [
        CNN(5, 3, widths=[4, 8], dropout=0.5),
        TimmNet(5, 3, "convnext_atto", drop_path_rate=0.5),
        TimmNet(5, 3, "resnet10t", drop_rate=0.5),
    ]
    for net in nets:
        net.eval()
        assert torch.equal(net(images), net(images))
        net.train()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        assert not torch.equal(net(images), net(images))


def test_stochastic_depth_of_a_net_without_it_is_refused():
    with pytest.raises(TypeError, match="drop_path_rate"):
        TimmNet(5, 3, "vgg11", drop_path_rate=0.1)
