"""Self-supervised wrappers in plain PyTorch: what a checkpoint holds, named as by its authors.

Each function takes a residual network of torchvision's and gives what is saved, the part that is
wrapped in it, and the projection head.
"""

import copy
import itertools
from collections import OrderedDict

from torch import nn


def mlp(inputs, hidden, outputs, bias=True):
    """Linear layers and ReLU: indices 0, 2."""
    first, last = nn.Linear(inputs, hidden, bias=bias), nn.Linear(hidden, outputs, bias=bias)
    return nn.Sequential(first, nn.ReLU(), last)


def mlp_with_norms(*sizes, bias=False, end=None, last_bias=False):
    """Linear layers, batch norms and ReLU: indices 0, 1, 3, 4 ...; `end` comes last."""
    layers = []
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.BatchNorm1d(outputs), nn.ReLU()]
    layers.append(nn.Linear(*sizes[-2:], bias=last_bias))
    return nn.Sequential(*layers, *([end] if end else []))


def named(**children):
    """A module that holds others and never runs."""
    module = nn.Module()
    for name, child in children.items():
        if isinstance(child, nn.Module):
            module.add_module(name, child)
        else:
            module.register_buffer(name, child)
    return module


def data_parallel(module):
    """Every key behind "module.", as distributed training leaves it."""
    return named(module=module)


def moco_v1(network, queue):
    network.fc = nn.Linear(network.fc.in_features, 16)
    encoders = {"encoder_q": network, "encoder_k": copy.deepcopy(network)}
    return data_parallel(named(**encoders, queue=queue, queue_ptr=queue[0, :1].long())), network.fc


def moco_v2(network, queue):
    width = network.fc.in_features
    network.fc = mlp(width, width, 16)
    encoders = {"encoder_q": network, "encoder_k": copy.deepcopy(network)}
    return data_parallel(named(**encoders, queue=queue, queue_ptr=queue[0, :1].long())), network.fc


def moco_v3(network, queue):
    end = nn.BatchNorm1d(16, affine=False)
    network.fc = mlp_with_norms(network.fc.in_features, 32, 16, end=end)
    whole = named(
        base_encoder=network,
        momentum_encoder=copy.deepcopy(network),
        predictor=mlp_with_norms(16, 32, 16, end=nn.BatchNorm1d(16, affine=False)),
    )
    return data_parallel(whole), network.fc


def simsiam(network, queue):
    """Three layers; the last one's bias is there, and not trained."""
    width, end = network.fc.in_features, nn.BatchNorm1d(16, affine=False)
    network.fc = mlp_with_norms(width, width, width, 16, end=end, last_bias=True)
    predictor = mlp_with_norms(16, 32, 16, last_bias=True)
    return data_parallel(named(encoder=network, predictor=predictor)), network.fc


def simclr(network, queue):
    width = network.fc.in_features
    network.fc = mlp(width, width, 16)
    return named(backbone=network), network.fc


def simclr_encoder(network, queue):
    width, network.fc = network.fc.in_features, nn.Identity()
    head = mlp(width, width, 16, bias=False)
    return named(encoder=network, projector=head), head


def simclr_bolts(network, queue):
    head = mlp_with_norms(network.fc.in_features, 32, 16, bias=True)
    projection = named(model=head)
    return named(encoder=network, projection=projection, non_linear_evaluator=mlp(4, 4, 4)), head


def byol(network, queue):
    head = mlp_with_norms(network.fc.in_features, 32, 16, bias=True, last_bias=True)
    online = named(net=network, projector=head)
    whole = named(
        net=network,
        online_encoder=online,
        target_encoder=copy.deepcopy(online),
        online_predictor=mlp_with_norms(16, 32, 16, bias=True, last_bias=True),
    )
    return whole, head


def solo_learn(network, queue):
    width, network.fc = network.fc.in_features, nn.Identity()
    head = mlp_with_norms(width, 32, 16, bias=True, last_bias=True)
    whole = named(
        backbone=network,
        classifier=nn.Linear(width, 10),
        projector=head,
        predictor=mlp_with_norms(16, 32, 16, bias=True, last_bias=True),
        momentum_backbone=copy.deepcopy(network),
        momentum_projector=copy.deepcopy(head),
    )
    return whole, head


def swav(network, queue):
    width = network.fc.in_features
    del network.fc
    head = mlp_with_norms(width, 32, 16, bias=True, last_bias=True)
    children = dict(network.named_children())
    return data_parallel(
        named(**children, projection_head=head, prototypes=nn.Linear(16, 30, bias=False))
    ), head


def barlow_twins(network, queue):
    width, network.fc = network.fc.in_features, nn.Identity()
    head = mlp_with_norms(width, 32, 32, 16)
    bn = nn.BatchNorm1d(16, affine=False)
    return data_parallel(named(backbone=network, projector=head, bn=bn)), head


class DinoHead(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        sizes = ((inputs, 32), (32, 32), (32, 16))
        linears = [nn.Linear(*size) for size in sizes]
        self.mlp = nn.Sequential(linears[0], nn.GELU(), linears[1], nn.GELU(), linears[2])
        last = nn.Linear(16, 30, bias=False)
        self.last_layer = nn.utils.parametrizations.weight_norm(last)

    def forward(self, x):
        return nn.functional.normalize(self.mlp(x), dim=-1)  # what the prototypes are compared with


def dino(network, queue):
    width, network.fc = network.fc.in_features, nn.Identity()
    head = DinoHead(width)
    return data_parallel(named(backbone=network, head=head)), head


def embedding(network, head=None):
    """The network without its classifier, and the head if there is one; stages keep their names."""
    layers = [(name, m) for name, m in network.named_children() if name != "fc"]
    layers += [("flatten", nn.Flatten()), ("head", head or nn.Identity())]
    return nn.Sequential(OrderedDict(layers))
