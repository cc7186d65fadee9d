"""What the words of CLIP's text tower hold: captum's layer attributions of transformers' tower."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fam_jax
import pretrained_ports
from pretrained_ports.models import clip_text

torch = pytest.importorskip("torch")
attr = pytest.importorskip("captum.attr")
compare = pytest.importorskip("tests.parity.compare")
pytestmark = pytest.mark.parity

WORDS, END, DIM, STEPS = 1000, 999, 512, 4
LAYERS = {
    "token_embedding": "text_model.embeddings.token_embedding",
    "blocks.0": "text_model.encoder.layers.0",
    "blocks.1.norm1": "text_model.encoder.layers.1.layer_norm1",
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """Both towers with the same weights in float64, two blocks deep, and what they are given."""
    compare.import_torchvision()
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS, num_hidden_layers=2, bos_token_id=END - 1, eos_token_id=END
    )
    theirs = compare.randomise(transformers.CLIPTextModelWithProjection(config)).double()
    file = tmp_path_factory.mktemp("text") / "random.pth"
    torch.save(theirs.state_dict(), file)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, END - 1, (2, 9)).astype(np.int32)
    ids[:, 0], ids[0, 5:], ids[1, 8] = END - 1, END, END  # one ends early: padding is the end token
    pictures = rng.normal(size=(2, DIM))
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True):
        small = clip_text.VARIANTS["base"]._replace(vocabulary=WORDS, depth=2)
        patch.setitem(clip_text.VARIANTS, "base", small)
        ours = pretrained_ports.load_text("clip-vit-b32", file, param_dtype="float64")
        with jax.default_matmul_precision("highest"):
            yield SimpleNamespace(theirs=theirs, ours=ours, ids=ids, pictures=pictures)


def cosine(towers):
    """Token ids -> the cosine with the pictures' embeddings, as captum asks for it."""

    def score(ids, pictures):
        return torch.cosine_similarity(towers.theirs(ids).text_embeds, pictures)

    return score


def agree(maps, theirs, record_property):
    theirs = theirs.detach().sum(-1).numpy()
    assert maps.shape == theirs.shape == (2, 9)
    difference = float(np.abs(np.asarray(maps) - theirs).max() / np.abs(theirs).max())
    record_property("difference", difference)
    assert difference <= 1e-5
    assert np.abs(theirs[0, 1:5]).max() > 0, "of the words"
    np.testing.assert_array_equal(maps[0, 6:], 0)  # behind the end of a sentence


@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_times_activation_is_captums(towers, layer, record_property):
    """Through the causal mask and the end-of-text pooling, at three layers."""
    tool = attr.LayerGradientXActivation(cosine(towers), towers.theirs.get_submodule(LAYERS[layer]))
    args = torch.as_tensor(towers.ids).long(), torch.as_tensor(towers.pictures)
    theirs = tool.attribute(args[0], additional_forward_args=args[1])
    encode = fam_jax.capture(towers.ours, at=layer, gates="free")
    method = fam_jax.hires_cam(norms="free")
    out = fam_jax.explain(encode, towers.ids, jnp.asarray(towers.pictures), method)
    agree(out.maps, theirs, record_property)


def test_integrated_over_a_pair_of_encoders_it_is_captums(towers, record_property):
    """Where the other encoder is linear in one position, its part is its embedding."""
    layer = "token_embedding"

    def score(ids, pictures):
        return (towers.theirs(ids).text_embeds * pictures).sum(1)

    tool = attr.LayerIntegratedGradients(score, towers.theirs.get_submodule(LAYERS[layer]))
    start = np.full_like(towers.ids, 7)
    args = torch.as_tensor(towers.ids).long(), torch.as_tensor(start).long()
    theirs = tool.attribute(
        *args,
        additional_forward_args=torch.as_tensor(towers.pictures),
        n_steps=STEPS,
        method="riemann_middle",
    )
    encode = fam_jax.capture(towers.ours, at=layer, gates="free")
    other = fam_jax.encoder(lambda x: x, lambda A: A.sum(1))
    pictures = jnp.asarray(towers.pictures)[:, None]
    out = fam_jax.integrated_position_pairs(
        (encode, other),
        towers.ids,
        pictures,
        (start, jnp.zeros_like(pictures)),
        STEPS,
        similarity=fam_jax.dot,
    )
    agree(out.maps.sum(2), theirs, record_property)
