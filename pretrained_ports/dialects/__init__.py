"""One declarative table per source of checkpoints.

A new source is a new `Dialect`: rules from its keys to module paths, and the keys it may ignore. A
table knows the names inside the network only; wrappers around it are taken off when a file is read.
"""

from pretrained_ports.dialects.few_shot import CONV4_SEQUENTIAL
from pretrained_ports.dialects.resnet import CIFAR, TORCHVISION
from pretrained_ports.dialects.rules import Dialect, Rule

# What `convert.write` writes: module paths as keys.
NATIVE = Dialect("native", rules=(Rule(r".+", r"\g<0>"),))

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (TORCHVISION, CIFAR, CONV4_SEQUENTIAL, NATIVE)
}
