"""Text towers: sentences into the embedding space of images."""

from pretrained_ports.text.tokenizer import SentenceWarning as SentenceWarning
from pretrained_ports.text.towers import TextBackbone as TextBackbone
from pretrained_ports.text.towers import create_text as create_text
from pretrained_ports.text.towers import load_text as load_text
