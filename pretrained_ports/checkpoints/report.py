"""What became of every tensor of a checkpoint and of every parameter of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pretrained_ports.checkpoints.errors import one_line
from pretrained_ports.models.projection import LAYER as HEAD_LAYER

_SHOWN = 6


@dataclass(frozen=True)
class Report:
    """The outcome of one conversion.

    Attributes:
        source: The checkpoint file.
        dialect: Name of the table that was used.
        unwrapped: What was taken off around the weights, in order.
        used: Source key -> module path.
        ignored: Source key -> why it was not needed.
        unmatched: Source key -> its shape, for keys that no parameter takes.
        missing: Module path -> its shape, for parameters that no key fills.
        mismatched: Source key -> both shapes, or what else keeps the tensor from its parameter.
        entry: The part of the file that was taken, where there were several, or one was named.
        others: The parts that would have fitted, too.
        notes: What else was decided for a file that does not say it, a line each.
        dropped: Of a linear layer that could have been kept as a head: its path and its sizes.

    Examples:
        >>> print(Report("a.pth", "torchvision", ("state_dict",), {"fc.weight": "fc.kernel"}))
        a.pth: dialect torchvision, unwrapped state_dict; 1 tensors used, 0 ignored
    """

    source: str
    dialect: str
    unwrapped: tuple[str, ...] = ()
    used: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    unmatched: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    mismatched: Mapping[str, str] = field(default_factory=dict)
    entry: str = ""
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: str = ""

    def choices(self) -> list[str]:
        """What was decided where the file leaves a choice, a line each.

        Examples:
            >>> Report("a.pth", "native", entry="state_dict", others=("state_dict_ema",)).choices()
            ['entry state_dict was taken; state_dict_ema fits, too: entry= (--entry)']
        """
        if not self.others:
            return list(self.notes)
        fit = "fits" if len(self.others) == 1 else "fit"
        others = ", ".join(self.others[:_SHOWN])
        return [
            f"entry {self.entry} was taken; {others} {fit}, too: entry= (--entry)",
            *self.notes,
        ]

    def left_out(self) -> list[str]:
        """A line for the linear layer that could have been kept.

        Examples:
            >>> Report("a.pth", "torchvision", dropped="fc (512 -> 64)").left_out()
            ['fc (512 -> 64) was left out, the embedding is what enters it: head="keep" \
(--head keep)']
        """
        if not self.dropped:
            return []
        return [
            f"{self.dropped} was left out, the embedding is what enters it: "
            'head="keep" (--head keep)'
        ]

    @property
    def has_head(self) -> bool:
        """Whether a head was kept."""
        return any(HEAD_LAYER.fullmatch(path) for path in self.used.values())

    @property
    def names_fit(self) -> bool:
        """Every source key has its place and every parameter its source, whatever the shapes."""
        return not (self.unmatched or self.missing)

    @property
    def fits(self) -> bool:
        """Nothing is left over on either side."""
        return self.names_fit and not self.mismatched

    def __repr__(self) -> str:
        return f"Report({self})"

    def __str__(self) -> str:
        wrappers = f", unwrapped {' '.join(self.unwrapped)}" if self.unwrapped else ""
        return (
            f"{self.source}: dialect {self.dialect}{wrappers}; "
            f"{len(self.used)} tensors used, {len(self.ignored)} ignored"
            f"{''.join(f'; {line}' for line in (*self.choices(), *self.left_out()))}"
        )

    def full(self) -> str:
        """The same, and what was ignored for which reason, a line each."""
        reasons: dict[str, dict[str, str]] = {}
        for key, reason in self.ignored.items():
            reasons.setdefault(reason, {})[key] = ""
        lines = [
            f"  ignored {len(keys)}, {reason}: {listing(keys)}" for reason, keys in reasons.items()
        ]
        counts = f"  missing {len(self.missing)}, unmatched {len(self.unmatched)}"
        return "\n".join([str(self), *lines, counts])

    def misfits(self) -> str:
        """All that does not fit, both ways, a line each; long lists are shortened."""
        lists = (
            ("keys of the file have no place in the model", self.unmatched),
            ("parameters of the model are not in the file", self.missing),
            ("tensors do not suit their parameter", self.mismatched),
        )
        return "\n".join(
            f"  {len(items)} {what}: {listing(items)}" for what, items in lists if items
        )


def listing(items: Mapping[str, str]) -> str:
    """The first few items and how many there are besides.

    Examples:
        >>> listing({"a": "[3]", "b": "[4]"})
        'a [3]; b [4]'
    """
    shown = "; ".join(
        f"{one_line(key)} {what}".rstrip() for key, what in list(items.items())[:_SHOWN]
    )
    return f"{shown}; and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown
