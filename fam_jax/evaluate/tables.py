"""Tables of a run: means with bootstrap standard errors, and differences from one method."""

import csv
import io
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from fam_jax import metrics

Values = Mapping[str, Mapping[str, np.ndarray]]  # method -> measure -> a number per case


class Entry(NamedTuple):
    """A mean over cases, its bootstrap standard error, and how many cases it is of."""

    mean: float
    standard_error: float
    cases: int


Table = dict[str, dict[str, Entry]]  # method -> measure -> entry


def means(values: Values) -> Table:
    """Mean of every method's every measure."""
    return {
        method: {name: _entry(column) for name, column in columns.items()}
        for method, columns in values.items()
    }


def differences(values: Values, against: str) -> Table:
    """Mean difference, case by case, from what the method `against` scores."""
    base = values[against]
    return means(
        {
            method: {name: column - base[name] for name, column in columns.items() if name in base}
            for method, columns in values.items()
            if method != against
        }
    )


def _entry(column: np.ndarray) -> Entry:
    mean, error = metrics.mean_and_error(column, jax.random.key(0))
    return Entry(float(mean), float(error), int(np.isfinite(column).sum()))


def markdown(table: Table) -> str:
    """Mean ± standard error, a row a method."""
    columns = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = ["| method | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for method, row in table.items():
        cells = {
            name: with_error(entry.mean, entry.standard_error) if entry.cases else "none"
            for name, entry in row.items()
        }
        lines.append(f"| {method} | " + " | ".join(cells.get(name, "") for name in columns) + " |")
    return "\n".join(lines)


def with_error(mean: float, error: float, sign: str = "") -> str:
    """Mean ± error, to the error's second digit: three decimals at least.

    Examples:
        >>> with_error(0.98412, 0.00037), with_error(0.5, 0.04, sign="+")
        ('0.98412 ± 0.00037', '+0.500 ± 0.040')
    """
    digits = 3 if not error > 0 else min(max(3, 1 - math.floor(math.log10(error))), 6)
    return f"{mean:{sign}.{digits}f} ± {error:.{digits}f}"


def as_csv(table: Table) -> str:
    """One row for each method and measure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "measure", *Entry._fields])
    for method, row in table.items():
        for name, (mean, error, cases) in row.items():
            writer.writerow([method, name, f"{mean:.6g}", f"{error:.6g}", cases])
    return text.getvalue()
