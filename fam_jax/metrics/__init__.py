"""How good a map is, in numbers: batches in, one number for each image [b] out, at least float32.

Arguments that several metrics share:
    embed: images -> embeddings [b, d], or an encoder.
    images: preprocessed ones [b, H, W, c], or signals, volumes, ... [b, *space, c].
    references: the embedding [b, d] that each image is compared with.
    maps: raw maps [b, *space], at any resolution unless masks go with them.
    masks: where the maps should be high, booleans at the maps' resolution.
    similarity: what is scored: `cosine`, `dot`, `euclidean` or your own.
    key: a `jax.random.key`; what it draws is the same for every image of the batch.
    explain: images -> raw maps [b, *space]. A function's arrays are constants of the compilation
        unless `functools.partial` or a pytree holds them.
    order: "most" relevant pixels first, or "least".
    chunk: how many changed copies of the batch are embedded at a time.

A map that is not finite scores NaN. Arguments of other shapes, types or values raise ValueError or
TypeError, in one line.
"""

from fam_jax.methods.baselines import centre_gaussian as centre_gaussian
from fam_jax.methods.baselines import random_map as random_map
from fam_jax.metrics.bootstrap import Estimate as Estimate
from fam_jax.metrics.bootstrap import left_out as left_out
from fam_jax.metrics.bootstrap import mean_and_error as mean_and_error
from fam_jax.metrics.bootstrap import paired_difference as paired_difference
from fam_jax.metrics.boxes import box_hit as box_hit
from fam_jax.metrics.boxes import box_iou as box_iou
from fam_jax.metrics.boxes import box_masks as box_masks
from fam_jax.metrics.boxes import box_of as box_of
from fam_jax.metrics.completeness import completeness_error as completeness_error
from fam_jax.metrics.correspondence import endpoint_error as endpoint_error
from fam_jax.metrics.curves import Curve as Curve
from fam_jax.metrics.curves import aid as aid
from fam_jax.metrics.curves import deletion as deletion
from fam_jax.metrics.curves import insertion as insertion
from fam_jax.metrics.curves import normalised as normalised
from fam_jax.metrics.decision import eer_threshold as eer_threshold
from fam_jax.metrics.decision import fewshot_fidelity as fewshot_fidelity
from fam_jax.metrics.decision import verification_accuracy as verification_accuracy
from fam_jax.metrics.drop import average_drop as average_drop
from fam_jax.metrics.drop import coherency as coherency
from fam_jax.metrics.drop import complexity as complexity
from fam_jax.metrics.drop import increase as increase
from fam_jax.metrics.drop import masked_scores as masked_scores
from fam_jax.metrics.imputed import road as road
from fam_jax.metrics.imputed import road_combined as road_combined
from fam_jax.metrics.localization import energy_in as energy_in
from fam_jax.metrics.localization import iou as iou
from fam_jax.metrics.localization import pointing as pointing
from fam_jax.metrics.localization import rank_in as rank_in
from fam_jax.metrics.pair_curves import deletion_pairs as deletion_pairs
from fam_jax.metrics.pair_curves import insertion_pairs as insertion_pairs
from fam_jax.metrics.sanity import randomised as randomised
from fam_jax.metrics.sanity import spearman as spearman
from fam_jax.metrics.stability import max_sensitivity as max_sensitivity
