"""Checkpoint files into networks and back: readers, dialects, matching, writing."""

from pretrained_ports.checkpoints.errors import CheckpointError as CheckpointError
from pretrained_ports.checkpoints.matching import convert as convert
from pretrained_ports.checkpoints.readers import Checkpoint as Checkpoint
from pretrained_ports.checkpoints.readers import read as read
from pretrained_ports.checkpoints.report import Report as Report
from pretrained_ports.checkpoints.writing import provenance as provenance
from pretrained_ports.checkpoints.writing import write as write
