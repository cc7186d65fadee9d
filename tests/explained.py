"""Maps by any method for an encoder, or for any function images -> embeddings."""

import fam_jax


def explained(method, embed, images, references):
    """What `explain` says; a function's layer is the picture itself."""
    whole = not isinstance(embed, fam_jax.Encoder)
    encode = fam_jax.encoder(lambda images: images, embed) if whole else embed
    return fam_jax.explain(encode, images, references, method).maps


def weights(method, z, r):
    """What a method weighs the embedding's dimensions by, [b, d]."""
    return method.maps.weigh(method.similarity, z, r)


def channel_map(enc, w):
    """sum_k alpha_k A_k, alpha = sum_hw pullback(w): FAM's map for given weights."""
    alpha = enc.pullback(w).sum((1, 2))
    return (enc.activations * alpha[:, None, None]).sum(-1)
