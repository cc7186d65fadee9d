"""The vocabulary of the dialect tables: how one source tensor finds its place in a model."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Rule(NamedTuple):
    """Source keys that match `pattern` go to the module path `target`.

    Attributes:
        pattern: Regular expression for the whole key.
        target: Path of the parameter; may use the pattern's groups, as in `re.sub`. An ending
            "[1:2/3]" stands for the second third of its last axis.
        transform: From the source's array layout to ours; raises ValueError for another rank.
    """

    pattern: str
    target: str
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray


class Ignore(NamedTuple):
    """Source keys that match `pattern` are not needed, for a `reason` that the report gives."""

    pattern: str
    reason: str


@dataclass(frozen=True)
class Dialect:
    r"""The key names of one source of checkpoints.

    Attributes:
        name: What `dialect=` and the report call it.
        rules: Where the weights go.
        ignore: Whole keys that are not needed; they come before the rules.
        prefix: Regular expression, without groups, before every key of `rules` and `head`:
            "encoder_q\\.".
        head: Where a projection head goes, for those who keep it.
        needs: Regular expression of a key that every such file has, where the rest of the table
            would fit other files too.
        positions: Whose way to fit a transformer's positions to another grid such files are used
            in; one of `models.vit_variants.PROJECTS`.

    Examples:
        >>> dialect = Dialect("toy", conv(r"layer(\d)", r"block\1"), (Ignore("fc.*", "head"),))
        >>> dialect.place("layer2.weight").target
        'block2.kernel'
        >>> dialect.reason_to_ignore("fc.weight")
        'head'
    """

    name: str
    rules: tuple[Rule, ...]
    ignore: tuple[Ignore, ...] = ()
    prefix: str = ""
    head: tuple[Rule, ...] = ()
    needs: str = ""
    positions: str = "authors"

    def claims(self, keys: Iterable[str]) -> bool:
        """Whether the key that the table needs is there."""
        return not self.needs or any(map(re.compile(self.needs).fullmatch, keys))

    def place(self, key: str) -> Rule | None:
        """The first rule for a source key, its target filled in."""
        return _filled(self.rules, self._rules, key)

    def place_head(self, key: str) -> Rule | None:
        """The same among the rules of the projection head."""
        return _filled(self.head, self._head, key)

    def reason_to_ignore(self, key: str) -> str | None:
        """Why a source key is not needed, or None if nothing says so."""
        found = self._ignore.find(key)
        return found and self.ignore[found[0]].reason

    @cached_property
    def _rules(self) -> "_Patterns":
        return _Patterns([self.prefix + rule.pattern for rule in self.rules])

    @cached_property
    def _head(self) -> "_Patterns":
        return _Patterns([self.prefix + rule.pattern for rule in self.head])

    @cached_property
    def _ignore(self) -> "_Patterns":
        return _Patterns([ignore.pattern for ignore in self.ignore])


class _Patterns:
    """Expressions for whole keys, of which all are asked in one go whether any is a key's.

    They are more than `re` keeps, and are compiled once here: a file may have any number of keys.
    """

    def __init__(self, patterns: list[str]):
        self._each = [re.compile(pattern) for pattern in patterns]
        self._any = re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or "(?!)")

    def find(self, key: str) -> tuple[int, re.Match[str]] | None:
        """The first that matches, by its number."""
        if self._any.fullmatch(key) is None:
            return None
        matches = ((i, pattern.fullmatch(key)) for i, pattern in enumerate(self._each))
        return next(((i, match) for i, match in matches if match), None)


def _filled(rules: tuple[Rule, ...], patterns: _Patterns, key: str) -> Rule | None:
    if (found := patterns.find(key)) is None:
        return None
    rule, match = rules[found[0]], found[1]
    return rule._replace(target=match.expand(rule.target))


def conv(source: str, target: str = r"\1") -> tuple[Rule, ...]:
    """Rules for a convolution at a source path (a regular expression), with or without bias."""
    return (
        Rule(rf"{source}\.weight", f"{target}.kernel", oihw_to_hwio),
        Rule(rf"{source}\.bias", f"{target}.bias"),
    )


def batch_norm(source: str, target: str = r"\1") -> tuple[Rule, ...]:
    """Rules for a batch normalisation at a source path (a regular expression)."""
    return (
        Rule(rf"{source}\.weight", f"{target}.scale"),
        Rule(rf"{source}\.bias", f"{target}.bias"),
        Rule(rf"{source}\.running_mean", f"{target}.mean"),
        Rule(rf"{source}\.running_var", f"{target}.var"),
    )


def linear(source: str, target: str = r"\1") -> tuple[Rule, ...]:
    """Rules for a linear layer at a source path (a regular expression), with or without bias."""
    return (
        Rule(rf"{source}\.weight", f"{target}.kernel", oi_to_io),
        Rule(rf"{source}\.bias", f"{target}.bias"),
    )


def linear_part(source: str, target: str, part: str) -> tuple[Rule, ...]:
    """Rules for a linear layer that gives some of another's outputs: "[0:1/3]", the first third."""
    weight, bias = linear(source, target)
    return tuple(rule._replace(target=rule.target + part) for rule in (weight, bias))


def layer_norm(source: str, target: str = r"\1") -> tuple[Rule, ...]:
    """Rules for a layer normalisation at a source path (a regular expression)."""
    return (
        Rule(rf"{source}\.weight", f"{target}.scale"),
        Rule(rf"{source}\.bias", f"{target}.bias"),
    )


def oi_to_io(kernel: np.ndarray) -> np.ndarray:
    """[outputs inputs] -> [inputs outputs]."""
    return kernel.transpose(1, 0)


def oihw_to_hwio(kernel: np.ndarray) -> np.ndarray:
    """[outputs inputs h w] -> [h w inputs outputs]."""
    return kernel.transpose(2, 3, 1, 0)


# A layer in its place that is one linear layer can be kept, as a head is.
CLASSIFIER = "the classifier; the embedding is what enters it"

TEXT_TOWER = "the text tower"
COUNTERS = Ignore(r".*num_batches_tracked", "a training counter")
