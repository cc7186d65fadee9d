"""The rows of the zoo, a file for each group of families."""

from pretrained_ports.catalog import face, few_shot, resnet, vit
from pretrained_ports.entry import Entry

ENTRIES: dict[str, Entry] = resnet.ENTRIES | few_shot.ENTRIES | face.ENTRIES | vit.ENTRIES
