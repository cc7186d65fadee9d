"""Methods of explanation, measured on a network's own task: from the command line, or on arrays."""

from fam_jax.evaluate.cases import Batch as Batch
from fam_jax.evaluate.cases import Cases as Cases
from fam_jax.evaluate.drawing import Options as Options
from fam_jax.evaluate.measures import MEASURES as MEASURES
from fam_jax.evaluate.measures import compare as compare
from fam_jax.evaluate.network import Network as Network
from fam_jax.evaluate.run import evaluate as evaluate
from fam_jax.evaluate.tables import differences as differences
from fam_jax.evaluate.tables import markdown as markdown
from fam_jax.evaluate.tables import means as means
from fam_jax.evaluate.tasks import register_task as register_task
