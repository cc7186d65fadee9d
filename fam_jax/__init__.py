"""fam_jax: why does a network find two images alike? Feature Activation Maps in JAX."""

import importlib
from typing import TYPE_CHECKING

from fam_jax._core.capture import capture as capture
from fam_jax._core.capture import encoder as encoder
from fam_jax._core.encoder import Encoder as Encoder
from fam_jax._core.encoding import Encoding as Encoding
from fam_jax._core.maps import fuse as fuse
from fam_jax._core.maps import minmax as minmax
from fam_jax._core.maps import rescale as rescale
from fam_jax._core.maps import upsample as upsample
from fam_jax._core.references import Neighbours as Neighbours
from fam_jax._core.references import classifier_rows as classifier_rows
from fam_jax._core.references import neighbours as neighbours
from fam_jax._core.references import prototypes as prototypes
from fam_jax._core.similarity import Similarity as Similarity
from fam_jax._core.similarity import cosine as cosine
from fam_jax._core.similarity import dot as dot
from fam_jax._core.similarity import euclidean as euclidean
from fam_jax._core.similarity import margin as margin
from fam_jax._core.similarity import normalize as normalize
from fam_jax._core.tap import tap as tap
from fam_jax._core.tokens import TokenGrid as TokenGrid
from fam_jax.methods import Method as Method
from fam_jax.methods import activation_sum as activation_sum
from fam_jax.methods import all_pairs as all_pairs
from fam_jax.methods import attention_layers as attention_layers
from fam_jax.methods import attention_rollout as attention_rollout
from fam_jax.methods import cam as cam
from fam_jax.methods import centred as centred
from fam_jax.methods import chefer as chefer
from fam_jax.methods import concepts as concepts
from fam_jax.methods import contrastive as contrastive
from fam_jax.methods import corr_rise as corr_rise
from fam_jax.methods import correspondences as correspondences
from fam_jax.methods import decomposition as decomposition
from fam_jax.methods import eigen_cam as eigen_cam
from fam_jax.methods import fam as fam
from fam_jax.methods import fggb as fggb
from fam_jax.methods import grad_cam as grad_cam
from fam_jax.methods import grad_cam_pp as grad_cam_pp
from fam_jax.methods import grad_eclip as grad_eclip
from fam_jax.methods import hires_cam as hires_cam
from fam_jax.methods import integrated_pair as integrated_pair
from fam_jax.methods import integrated_position_pairs as integrated_position_pairs
from fam_jax.methods import interaction_cam as interaction_cam
from fam_jax.methods import layer_cam as layer_cam
from fam_jax.methods import le_grad as le_grad
from fam_jax.methods import lots as lots
from fam_jax.methods import nmf_concepts as nmf_concepts
from fam_jax.methods import occlusion as occlusion
from fam_jax.methods import point_to_point as point_to_point
from fam_jax.methods import position_pairs as position_pairs
from fam_jax.methods import relevance_cam as relevance_cam
from fam_jax.methods import rise as rise
from fam_jax.methods import score_cam as score_cam
from fam_jax.methods import xgrad_cam as xgrad_cam
from fam_jax.methods.explain import Explanation as Explanation
from fam_jax.methods.explain import PairExplanation as PairExplanation
from fam_jax.methods.explain import explain as explain
from fam_jax.methods.explain import explain_all as explain_all
from fam_jax.methods.explain import explain_pairs as explain_pairs
from fam_jax.methods.relevance import relevance as relevance

# These need pillow or matplotlib, or are not always wanted.
_LATER = ("io", "metrics", "plot", "training")
if TYPE_CHECKING:
    from fam_jax import io as io
    from fam_jax import metrics as metrics
    from fam_jax import plot as plot
    from fam_jax import training as training


def __getattr__(name: str):
    if name in _LATER:
        return importlib.import_module(f"fam_jax.{name}")
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("fam-jax")
        except PackageNotFoundError:  # the source runs without being installed
            return "0+unknown"
    raise AttributeError(f"module 'fam_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*globals(), *_LATER, "__version__"))
