"""Explain signals: what do two seconds of EEG with closed eyes have in common, and when?

    pip install ".[train]"
    python examples/eeg.py --data eeg_eye_state.csv --out eeg     # writes eeg/*.png

A minute on two processor cores. The file is "EEG Eye State" of the UCI repository (O. Roesler,
2013): one person, 117 seconds, 14 electrodes at 128 Hz, eyes closed or open. Two small networks
learn to tell the two states from two seconds each (supervised contrastive loss): one reads the
samples [b t c], convolved along time, one their spectrogram [b f t c], convolved along frequency
and time. Then two segments that neither has seen, both with closed eyes, are explained on both:
where in time, and where in time and frequency, is what makes them more alike than segments with
open eyes? The signal is drawn as lines coloured by its map.

What it shows: one call explains pairs of any number of axes, and the numbers say whether to believe
the maps: `aid` deletes what they hold to be least and most relevant (above 0: better than chance),
and the share of the spectrogram's map between 8 and 13 Hz can be compared with the share of these
rows (the alpha rhythm comes with closed eyes). What it does not show: anything about people. It is
one recording of one person, its states are long blocks, and networks may tell blocks by slow drifts
of the electrodes; so whole blocks are held out, and accuracy on them is far below what random
splits of this file are known for.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import fam_jax
from fam_jax import metrics
from training import descend

RATE = 128  # samples in a second
SEGMENT, STEP = 256, 32
WINDOW, HOP = 64, 16  # of the spectrogram: rows are 2 Hz apart, columns an eighth of a second
LOWEST, HIGHEST = 2, 40  # Hz
ALPHA = 8, 13  # Hz
SPIKE = 500  # so far from the median an amplifier's fault, in the file's units
BATCH, STEPS, TEMPERATURE = 64, 200, 0.1


def recording(file):
    """Samples [n 14] of deviation 1 about 0 without spikes, closed eyes [n], the electrodes."""
    names = file.read_text().split("\n", 1)[0].split(",")[:-1]
    table = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32)
    samples, closed = table[:, :-1], table[:, -1] > 0
    middle = np.median(samples, axis=0)
    samples = np.where(np.abs(samples - middle) > SPIKE, middle, samples) - middle
    return samples / samples.std(axis=0), closed, names


def segments(samples, closed):
    """Segments [n 256 14] of one state each, their states, and the number of each one's block."""
    block = np.concatenate([[0], np.cumsum(np.diff(closed.astype(int)) != 0)])
    starts = [
        i for i in range(0, len(samples) - SEGMENT, STEP) if block[i] == block[i + SEGMENT - 1]
    ]
    x = np.stack([samples[i : i + SEGMENT] for i in starts])
    return x - x.mean(axis=1, keepdims=True), closed[starts], block[starts]


def spectrogram(x):
    """Log power [b f t 14] of segments, lowest frequencies last."""
    starts = range(0, SEGMENT - WINDOW + 1, HOP)
    cut = np.stack([x[:, i : i + WINDOW] for i in starts], axis=1)
    cut = (cut - cut.mean(axis=2, keepdims=True)) * np.hanning(WINDOW)[:, None]
    power = np.abs(np.fft.rfft(cut, axis=2)) ** 2
    rows = np.flatnonzero((hertz() >= LOWEST) & (hertz() <= HIGHEST))[::-1]
    return np.log(power[:, :, rows].swapaxes(1, 2) + 1e-3).astype(np.float32)


def hertz():
    return np.fft.rfftfreq(WINDOW, 1 / RATE)


class Net(nnx.Module):
    """Inputs [b *space 14] -> embeddings [b 32]: two convolutions of the given size, and a mean."""

    def __init__(self, size, strides, rngs):
        self.blocks = nnx.List(
            nnx.Sequential(
                nnx.Conv(inputs, outputs, size, strides=stride, rngs=rngs),
                nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs),
                nnx.relu,
            )
            for inputs, outputs, stride in ((14, 32, strides), (32, 32, 1))
        )

    def __call__(self, x):
        """Embed."""
        for block in self.blocks:
            x = block(x)
        return x.mean(tuple(range(1, x.ndim - 1)))


def train(model, inputs, closed, steps, seed=0):
    x, labels = jnp.asarray(inputs), jnp.asarray(closed)

    def loss(model, _, key):
        which, gain, noise = jax.random.split(key, 3)
        i = jax.random.choice(which, len(x), (BATCH,), replace=False)
        each = (BATCH, *[1] * (x.ndim - 1))
        views = x[i] * jax.random.uniform(gain, each, minval=0.8, maxval=1.2)
        views = views + 0.2 * jax.random.normal(noise, views.shape)
        z = fam_jax.normalize(model(views))
        itself = jnp.eye(BATCH, dtype=bool)
        positive = (labels[i][:, None] == labels[i][None]) & ~itself
        logits = jnp.where(itself, -jnp.inf, z @ z.T / TEMPERATURE)
        return -jnp.mean(jax.nn.log_softmax(logits), where=positive)

    descend(model, None, loss, steps, seed, rate=2e-3)
    return fam_jax.capture(model, at="blocks.1")


def look(name, encode, inputs, closed, held_out, query, reference):
    """Explain a pair and all held-out segments with closed eyes; print what can be checked."""
    z = encode(inputs).embeddings
    shown = ~held_out
    classes = fam_jax.prototypes(z[shown], jnp.asarray(closed[shown], int), 2)
    cosines = fam_jax.normalize(z[held_out]) @ fam_jax.normalize(classes).T
    right = np.argmax(cosines, axis=1) == closed[held_out]
    method = fam_jax.contrastive(z[shown & ~closed])
    pair = fam_jax.explain_pairs(encode, inputs[[query]], inputs[[reference]], method)

    some = np.flatnonzero(held_out & closed)
    targets = jnp.broadcast_to(classes[1], (len(some), classes.shape[1]))
    maps = fam_jax.explain(encode, inputs[some], targets, method).maps
    noise = metrics.random_map(jax.random.key(0), maps.shape)
    areas = [metrics.aid(encode, inputs[some], targets, m, method.similarity, steps=16)
             for m in (maps, noise)]  # fmt: skip
    both = np.mean([right[closed[held_out]].mean(), right[~closed[held_out]].mean()])
    print(f"{name}: balanced accuracy on held-out blocks {both:.2f} (chance 0.5)")
    print(f"  aid of contrastive {np.mean(areas[0]):.3f}, of random maps {np.mean(areas[1]):.3f}")
    return pair, maps


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="eeg_eye_state.csv")
    parser.add_argument("--out", type=Path, default=Path("eeg"), help="folder of the figures")
    parser.add_argument("--quick", action="store_true", help="hardly trained, to see that it runs")
    options = parser.parse_args()
    steps = 4 if options.quick else STEPS
    samples, closed, names = recording(options.data)
    x, state, block = segments(samples, closed)
    held_out = np.isin(block % 4, (2, 3))  # every other pair of blocks, an open and a closed one
    spectra = spectrogram(x)
    spectra = (spectra - spectra[~held_out].mean((0, 2))[:, None]) / spectra[~held_out].std()
    candidates = np.flatnonzero(held_out & state)
    query, reference = candidates[0], candidates[-1]  # of different blocks

    nets = {
        "signal": (Net((9,), (4,), nnx.Rngs(0)), x),
        "spectrogram": (Net((3, 3), (1, 1), nnx.Rngs(0)), spectra),
    }
    pairs = {}
    for name, (model, inputs) in nets.items():
        encode = train(model, inputs[~held_out], state[~held_out], steps)
        pairs[name], maps = look(name, encode, inputs, state, held_out, query, reference)
    rows = hertz()[(hertz() >= LOWEST) & (hertz() <= HIGHEST)][::-1]
    band = (rows >= ALPHA[0]) & (rows <= ALPHA[1])
    masks = jnp.asarray(np.broadcast_to(band[:, None], maps.shape))
    share = np.mean(metrics.energy_in(maps, masks))
    hz = f"{ALPHA[0]}-{ALPHA[1]} Hz"
    print(f"  share of its maps in {hz} {share:.2f}, of its rows {band.mean():.2f}")

    options.out.mkdir(parents=True, exist_ok=True)
    few = [names.index(name) for name in ("AF3", "F7", "O1", "O2")]
    sides = (("query", query), ("reference", reference))
    for (side, i), m in zip(sides, pairs["signal"][:2], strict=True):
        figure = fam_jax.plot.signal(
            x[i][:, few], m[0], rate=RATE, names=[names[j] for j in few],
            title=f"{side}: closed eyes, what the pair shares and open eyes do not",
        )  # fmt: skip
        figure.savefig(options.out / f"signal-{side}.png")
    pictures = [np.asarray(fam_jax.rescale(spectra[[i]].mean(3)))[0] for _, i in sides]
    large = [np.kron(picture, np.ones((8, 16), np.float32)) for picture in pictures]
    pair = pairs["spectrogram"]
    figure = fam_jax.plot.pair_figure(
        *large, pair.query_maps[0], pair.reference_maps[0], score=float(pair.scores[0]),
        title=f"spectrograms, {HIGHEST} Hz above, {LOWEST} Hz below; margin",
    )  # fmt: skip
    figure.savefig(options.out / "spectrogram.png")
    print(options.out)


if __name__ == "__main__":
    main()
