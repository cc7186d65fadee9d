"""Methods of explanation: factories of one type, `Method`, called in one way.

    method = factory(similarity, ...)
    maps = method(enc, references)      # raw maps [b, *space], one reference each

Positions have any number of axes: maps are [b, h, w] of images, [b, t] of signals, [b, d, h, w] of
volumes. `enc` is `encode(images)`; a method may need more than activations A, embeddings z and
pullback (the images, other layers, another reading of the network), which `encode(images, method)`
keeps. `references` are embeddings r [b, d]; a method that needs the other image takes its encoding,
and `method.pair(query, reference)` makes the maps of both. `explain`, `explain_pairs`,
`explain_all` and the commands give each method what it needs. Maps of methods that change the
images have their size, those of all others the layer's.

Arguments that factories share:
    similarity: what is explained: `cosine`, `dot`, `euclidean`, a `margin` or your own. To a
        baseline only the score that is reported beside the map.
    norms: "frozen" holds the norms in the similarity constant (the gradient of the dot product);
        "free" takes the true gradient, which for a cosine is orthogonal to z: its signed evidence
        sums to zero whatever the score.
    chunk: how many changed copies of the whole batch are embedded at a time, or dimensions of the
        embedding pulled back; memory grows with it, and not with their number.
    layers: names of the layers to read in the place of the ones there are by default.
    key: a `jax.random.key`, that of seed 0 if not given; every image, alone as in a batch, gets
        the same draws.

Arguments of other shapes, types or values raise ValueError or TypeError, in one line.
"""

from fam_jax.methods.attention import attention_layers as attention_layers
from fam_jax.methods.attention import attention_rollout as attention_rollout
from fam_jax.methods.attention import chefer as chefer
from fam_jax.methods.attention import grad_eclip as grad_eclip
from fam_jax.methods.attention import le_grad as le_grad
from fam_jax.methods.baselines import activation_sum as activation_sum
from fam_jax.methods.baselines import centre_baseline as centre_baseline
from fam_jax.methods.baselines import eigen_cam as eigen_cam
from fam_jax.methods.baselines import random_baseline as random_baseline
from fam_jax.methods.cams import grad_cam as grad_cam
from fam_jax.methods.cams import grad_cam_pp as grad_cam_pp
from fam_jax.methods.cams import hires_cam as hires_cam
from fam_jax.methods.cams import layer_cam as layer_cam
from fam_jax.methods.cams import xgrad_cam as xgrad_cam
from fam_jax.methods.channels import score_cam as score_cam
from fam_jax.methods.dimensions import fggb as fggb
from fam_jax.methods.integrated import integrated_pair as integrated_pair
from fam_jax.methods.integrated import integrated_position_pairs as integrated_position_pairs
from fam_jax.methods.masks import corr_rise as corr_rise
from fam_jax.methods.masks import rise as rise
from fam_jax.methods.method import Method as Method
from fam_jax.methods.method import all_pairs as all_pairs
from fam_jax.methods.nmf import concepts as concepts
from fam_jax.methods.nmf import nmf_concepts as nmf_concepts
from fam_jax.methods.pairs import centred as centred
from fam_jax.methods.pairs import correspondences as correspondences
from fam_jax.methods.pairs import interaction_cam as interaction_cam
from fam_jax.methods.pairs import point_to_point as point_to_point
from fam_jax.methods.pairs import position_pairs as position_pairs
from fam_jax.methods.pulled import pullback_method as pullback_method
from fam_jax.methods.registry import make as make
from fam_jax.methods.registry import names as names
from fam_jax.methods.registry import register as register
from fam_jax.methods.relevance import relevance_cam as relevance_cam
from fam_jax.methods.shares import cam as cam
from fam_jax.methods.shares import contrastive as contrastive
from fam_jax.methods.shares import decomposition as decomposition
from fam_jax.methods.shares import fam as fam
from fam_jax.methods.steps import lots as lots
from fam_jax.methods.windows import occlusion as occlusion
