"""Networks of few-shot learning."""

from pretrained_ports.dialects.rules import COUNTERS, Dialect, batch_norm, conv

# nn.Sequential of convolution, batch norm, ReLU and pooling, four times: indices 0 1 4 5 8 9 12 13.
# https://github.com/oscarknagg/few-shot
CONV4_SEQUENTIAL = Dialect(
    "conv4-sequential",
    rules=tuple(
        rule
        for block in range(4)
        for rule in (
            *conv(str(4 * block), f"block{block + 1}.conv"),
            *batch_norm(str(4 * block + 1), f"block{block + 1}.bn"),
        )
    ),
    ignore=(COUNTERS,),
)
