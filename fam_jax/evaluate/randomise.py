"""Parameter randomisation from the top: do maps change when the network forgets what it knows?"""

from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np

from fam_jax import metrics
from fam_jax.evaluate.asking import Question, explainer
from fam_jax.evaluate.cases import Batch
from fam_jax.evaluate.network import Network

SHARES = {"last stage": 0.0, "half": 0.5, "all": 1.0}


def randomisation(
    network: Network,
    method: str,
    batch: Batch,
    question: Question,
    maps: jax.Array,
) -> dict[str, np.ndarray]:
    """Spearman between a method's maps before and after; embeddings are those of the new network.

    Args:
        network: the trained one.
        method: its name.
        batch: cases whose references are images.
        question: what was asked of the trained network.
        maps: what it answered.
    """
    assert batch.others is not None
    assert batch.background_images is not None
    found = {}
    for name, share in SHARES.items():
        other = _randomised(network, share)
        again = question._replace(
            references=other.embed(batch.others), background=other.embed(batch.background_images)
        )
        new = explainer(other, method)(again)
        found[f"{name} random: Spearman"] = np.asarray(metrics.spearman(maps, new))
    return found


@lru_cache(maxsize=len(SHARES))  # the same networks for every method and batch
def _randomised(network: Network, share: float) -> Network:
    stages = network.stages()
    count = max(1, round(share * len(stages)))
    model = metrics.randomised(network.backbone.model, tuple(stages[-count:]), jax.random.key(0))
    return replace(network, backbone=replace(network.backbone, model=model))
