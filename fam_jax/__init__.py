"""fam_jax: why does a network find two images alike? Feature Activation Maps in JAX."""

import importlib

from fam_jax._tap import tap as tap
from fam_jax.encoding import Encoder as Encoder
from fam_jax.encoding import Encoding as Encoding
from fam_jax.encoding import TokenGrid as TokenGrid
from fam_jax.encoding import capture as capture
from fam_jax.encoding import encoder as encoder
from fam_jax.explain import Explanation as Explanation
from fam_jax.explain import PairExplanation as PairExplanation
from fam_jax.explain import explain as explain
from fam_jax.explain import explain_all as explain_all
from fam_jax.explain import explain_pairs as explain_pairs
from fam_jax.maps import minmax as minmax
from fam_jax.maps import rescale as rescale
from fam_jax.maps import upsample as upsample
from fam_jax.methods import Method as Method
from fam_jax.methods import activation_sum as activation_sum
from fam_jax.methods import all_pairs as all_pairs
from fam_jax.methods import decomposition as decomposition
from fam_jax.methods import fam as fam
from fam_jax.methods import grad_cam as grad_cam
from fam_jax.references import Neighbours as Neighbours
from fam_jax.references import classifier_rows as classifier_rows
from fam_jax.references import neighbours as neighbours
from fam_jax.references import prototypes as prototypes
from fam_jax.similarity import Similarity as Similarity
from fam_jax.similarity import cosine as cosine
from fam_jax.similarity import dot as dot
from fam_jax.similarity import euclidean as euclidean
from fam_jax.similarity import margin as margin

_LATER = ("images", "metrics", "plot")  # need pillow or matplotlib, or are not always wanted


def __getattr__(name: str):
    if name in _LATER:
        return importlib.import_module(f"fam_jax.{name}")
    raise AttributeError(f"module 'fam_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *_LATER))
