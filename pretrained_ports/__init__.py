"""Backbones in flax.nnx that give PyTorch's numbers, and the converters that fill them."""

from pretrained_ports.backbone import Backbone as Backbone
from pretrained_ports.catalog import register as register
from pretrained_ports.catalog.entry import Entry as Entry
from pretrained_ports.catalog.entry import Hub as Hub
from pretrained_ports.checkpoints import CheckpointError as CheckpointError
from pretrained_ports.checkpoints import Report as Report
from pretrained_ports.classifier import Classifier as Classifier
from pretrained_ports.classifier import load_classifier as load_classifier
from pretrained_ports.models.network import Network as Network
from pretrained_ports.models.relation_net import Relation as Relation
from pretrained_ports.preprocess import Preprocess as Preprocess
from pretrained_ports.relation import load_relation as load_relation
from pretrained_ports.text.towers import TextBackbone as TextBackbone
from pretrained_ports.text.towers import create_text as create_text
from pretrained_ports.text.towers import load_text as load_text
from pretrained_ports.weights.default import weights_installed as weights_installed
from pretrained_ports.zoo import create as create
from pretrained_ports.zoo import load as load
from pretrained_ports.zoo import names as names
