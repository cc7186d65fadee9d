"""The part of a file that is the network is found, whatever stands around and beside it."""

import json
import os
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint, CheckpointError, read
from pretrained_ports.checkpoints.readers import unwrap
from pretrained_ports.conversion import convert_file, find_model
from pretrained_ports.models.state import parameters
from tests.commands import run
from tests.ports.theirs import behind, tensors
from tests.ports.torch_bytes import pickled, storage, tensor, write_zip

NAME = "cifar-resnet20"
ONE, TWO = tensors(NAME, 1.0), tensors(NAME, 2.0)
NUMBER, VECTOR = np.array(3), np.ones(4, np.float32)

# Content of a file, and what of it is among what the report says was ignored.
FILES = {
    "a tensor beside the dictionary": ({"state_dict": ONE, "best_acc1": NUMBER}, "best_acc1"),
    "more tensors beside it": (
        {"model": ONE, "best": VECTOR, "queue": VECTOR, "epoch": 3},
        "queue",
    ),
    "a tensor beside the layers": ({**ONE, "best_acc1": np.array([76.1])}, "best_acc1"),
    "a count beside a prefix": ({"n_averaged": NUMBER, **behind("module.", ONE)}, "n_averaged"),
    "a loss beside a prefix": (
        {"state_dict": {**behind("model.", ONE), "criterion.pos_weight": VECTOR}},
        "criterion.pos_weight",
    ),
    "two prefixes": (
        {**behind("lit.net.", ONE), "lit.loss.weight": VECTOR, "mean": VECTOR},
        "lit.loss.weight",
    ),
    "a prefix that nobody knows": (behind("trunk.", ONE) | {"neck.weight": VECTOR}, "neck.weight"),
    "an unknown dictionary": ({"state_dict_backbone": ONE, "epoch": 3}, "epoch"),
    "other unknown dictionaries": ({"weights": ONE, "config": {"depth": 20}}, "config"),
    "an average alone": ({"model_ema": ONE, "step": NUMBER}, "step"),
    "one in another": ({"checkpoint": {"weights_ema": ONE, "lr": 0.1}, "args": {}}, "args"),
    "in a list": ({"networks": [ONE], "epoch": 3}, "epoch"),
    "beside its optimizer": (
        {"net": ONE, "optimizer": {"state": {0: {"exp_avg": VECTOR}, 1: {"exp_avg": VECTOR}}}},
        "optimizer",
    ),
    "a head beside the network": (
        {"encoder": ONE, "projector": {"0.weight": np.ones((4, 64), "f")}},
        "projector",
    ),
}


def opened(content, tmp_path):
    """As `read` gives a file with this content."""
    (tmp_path / "a.pth").write_bytes(bytes(2**20))
    return unwrap(content, tmp_path / "a.pth")


def value(backbone):
    """The number that all its weights are."""
    arrays = map(np.asarray, parameters(backbone.model).values())
    (only,) = np.unique(np.concatenate([array.ravel() for array in arrays]))
    return only


@pytest.mark.parametrize("case", FILES)
def test_what_is_around_and_beside_is_ignored(case, tmp_path):
    content, beside = FILES[case]
    checkpoint = opened(content, tmp_path)
    backbone = pretrained_ports.load(NAME, checkpoint)
    assert value(backbone) == 1
    assert beside in backbone.report.ignored
    assert not backbone.report.choices()


def test_the_model_is_found_from_a_part(tmp_path):
    content, _ = FILES["two prefixes"]
    assert find_model(opened({"epoch": 3, "weights": content}, tmp_path)) == NAME


TWICE = {
    "dictionaries": ({"state_dict": ONE, "state_dict_ema": TWO}, "state_dict", "state_dict_ema"),
    "the other first": ({"ema": TWO, "model": ONE, "epoch": 3}, "model", "ema"),
    "prefixes": ({**behind("student.", TWO), **behind("teacher.", ONE)}, "teacher", "student"),
    "deep": (
        {"state_dict": behind("module.", ONE), "ema": {"module": TWO}},
        "state_dict.module",
        "ema.module",
    ),
    "without a name": ({**ONE, "averaged": TWO}, "(the outermost)", "averaged"),
}


@pytest.mark.parametrize("case", TWICE)
def test_of_two_networks_the_usual_one_is_taken_and_both_are_named(case, tmp_path):
    content, taken, other = TWICE[case]
    checkpoint = opened(content, tmp_path)
    backbone = pretrained_ports.load(NAME, checkpoint)
    assert value(backbone) == 1
    assert (backbone.report.entry, backbone.report.others) == (taken, (other,))
    said = f"entry {taken} was taken; {other} fits, too: entry= (--entry)"
    assert said in str(backbone.report)
    again = pretrained_ports.load(NAME, checkpoint, entry=other)
    assert value(again) == 2
    assert again.report.entry == other
    assert not again.report.choices()


def test_of_two_networks_with_unknown_names_neither_is_taken(tmp_path):
    checkpoint = opened(behind("online.", ONE) | behind("target.", TWO), tmp_path)
    refusal = r"holds cifar-resnet20 2 times, in online, target; say which with entry="
    with pytest.raises(CheckpointError, match=refusal):
        pretrained_ports.load(NAME, checkpoint)
    with pytest.raises(CheckpointError, match=r"holds a network 2 times, in online, target"):
        find_model(checkpoint)
    assert value(pretrained_ports.load(NAME, checkpoint, entry="target")) == 2


def test_an_entry_that_is_not_there(tmp_path):
    checkpoint = opened({"state_dict": behind("module.", ONE), "ema": TWO}, tmp_path)
    with pytest.raises(CheckpointError, match=r"no entry 'swa' .* it has: state_dict, .*, ema"):
        pretrained_ports.load(NAME, checkpoint, entry="swa")
    with pytest.raises(CheckpointError, match=r"no entry 'swa' .* it has: bn1, conv1, "):
        pretrained_ports.load(NAME, Checkpoint(tmp_path, ONE), entry="swa")


def test_a_part_that_lacks_something_is_not_taken(tmp_path):
    """Unknown layers beside those of the network are another network's."""
    strange = {**ONE, "gate.weight": np.ones((16, 16), "f")}
    with pytest.raises(CheckpointError, match=r"no place in the model: gate.weight \[16, 16\]"):
        pretrained_ports.load(NAME, opened({"state_dict": strange}, tmp_path))
    less = {key: array for key, array in ONE.items() if key != "bn1.bias"}
    with pytest.raises(CheckpointError, match=r"not in the file: bn1.bias \[16\]"):
        pretrained_ports.load(NAME, opened({"a": behind("b.", less)}, tmp_path), "akamaster-cifar")


def nested(arrays):
    """A dictionary for every module, as deep as the names go."""
    content = {}
    for key, array in arrays.items():
        *modules, leaf = key.split(".")
        holder = content
        for module in modules:
            holder = holder.setdefault(module, {})
        holder[leaf] = array
    return content


FOR_EVERY_MODULE = {
    "by every name": nested(ONE),
    "by the first name": {
        first: {k.split(".", 1)[1]: v for k, v in ONE.items() if k.split(".")[0] == first}
        for first in dict.fromkeys(key.split(".")[0] for key in ONE)
    },
}


@pytest.mark.parametrize("case", FOR_EVERY_MODULE)
def test_a_dictionary_for_every_module(case, tmp_path):
    backbone = pretrained_ports.load(NAME, opened(FOR_EVERY_MODULE[case], tmp_path))
    assert value(backbone) == 1
    wrapped = opened({"epoch": 3, "model": FOR_EVERY_MODULE[case]}, tmp_path)
    assert find_model(wrapped) == NAME
    backbone = pretrained_ports.load(NAME, wrapped)
    assert value(backbone) == 1
    assert "epoch" in backbone.report.ignored


def test_a_head_in_a_dictionary_of_its_own_is_kept(tmp_path):
    """Beside the network's: solo-learn's names, in two dictionaries."""
    network = tensors("resnet18")
    content = {"backbone": network, "projector": {"0.weight": np.ones((6, 512), "f")}}
    checkpoint = opened(content, tmp_path)
    assert pretrained_ports.load("resnet18", checkpoint).embedding_dim == 512
    kept = pretrained_ports.load("resnet18", checkpoint, head="keep")
    assert (kept.embedding_dim, kept.report.dialect) == (6, "solo-learn")


def test_the_classifier_of_the_part_that_is_taken(tmp_path):
    """Behind an unknown name, of an entry, and in a dictionary of its own."""

    def headed(arrays, value):
        return arrays | {"linear.weight": np.full((3, 64), value, np.float32)}

    for content, entry in (
        ({"checkpoint": {"weights": headed(ONE, 5)}}, None),
        (behind("trunk.", headed(ONE, 5)) | {"neck.weight": VECTOR}, None),
        ({"state_dict": headed(ONE, 4), "state_dict_ema": headed(TWO, 5)}, "state_dict_ema"),
        (nested(headed(ONE, 5)), None),
    ):
        kernel, _ = pretrained_ports.load_classifier(NAME, opened(content, tmp_path), entry=entry)
        assert kernel.shape == (64, 3)
        assert (kernel == 5).all()


def test_the_command_converts_the_entry_that_is_named(tmp_path):
    """And says which could be, which is kept in the header."""
    file, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(behind("student.", TWO) | behind("teacher.", ONE), file)
    result = run("convert", file, out)
    assert result.exit_code == 0, result.output
    assert "entry teacher was taken; student fits, too: entry= (--entry)" in result.output
    assert read(out).metadata["source_entry"] == "teacher"
    result = run("convert", file, out, "--overwrite", "--entry", "student")
    assert result.exit_code == 0, result.output
    assert read(out).metadata["source_entry"] == "student"
    assert value(pretrained_ports.load(NAME, out)) == 2


@pytest.mark.parametrize("pattern", ["a{}.weight", "layer1.{}.conv1.weight", "b.c.d.e.f.g.{}"])
def test_any_number_of_keys(tmp_path, pattern):
    """More than a network has are not held against every table, nor lists searched in lists."""
    checkpoint = opened({pattern.format(i): VECTOR for i in range(60_000)}, tmp_path)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"it has 60000 tensors, and a network 5000 at most"):
        pretrained_ports.load(NAME, checkpoint)
    with pytest.raises(CheckpointError, match=r"follows no known dialect"):
        find_model(checkpoint)
    assert time.perf_counter() - start < 30  # more than a hundred seconds, were they not counted


def test_a_network_among_sixty_thousand_keys(tmp_path):
    many = {f"other.{i // 7}.x{i}": NUMBER for i in range(60_000)}
    assert (
        value(pretrained_ports.load(NAME, opened({**many, **behind("net.", ONE)}, tmp_path))) == 1
    )


def test_dictionaries_in_a_circle_and_in_many_places(tmp_path):
    """Each is looked into once."""
    content, shared = {"state_dict": {}}, {"x": 1}
    content["state_dict"]["state_dict"] = content["again"] = content
    for _ in range(60):
        shared = {"left": shared, "right": shared, "both": [shared, shared]}
    content["shared"] = shared
    with pytest.raises(CheckpointError, match=r"holds no dictionary of tensors"):
        opened(content, tmp_path)
    content["state_dict"]["weights"] = ONE
    assert value(pretrained_ports.load(NAME, opened(content, tmp_path))) == 1


def test_a_file_beside_the_weights_of_which_a_part_cannot_be_read(tmp_path):
    """The network is read; what has no array is left where it is."""
    weights = {"w": tensor(), "v": tensor(of=storage("1"))}
    other = {f"s{i}": tensor() for i in range(3)} | {"x" * 501: tensor()}
    code = pickled({"net": weights, "masks": other})
    file = write_zip(tmp_path / "a.pth", code, {"0": bytes(24), "1": bytes(24)})
    assert list(read(file).tensors) == ["w", "v"]


def in_pieces(folder, arrays, name="model.safetensors.index.json"):
    """A checkpoint in two files, with the list of which tensor is where."""
    keys = sorted(arrays)
    places = {key: f"model-{1 + (i % 2)}-of-2.safetensors" for i, key in enumerate(keys)}
    for place in set(places.values()):
        save_file({key: arrays[key] for key in keys if places[key] == place}, folder / place)
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder / name


def test_a_checkpoint_in_pieces(tmp_path):
    """By its list, or by its folder; its hash is that of all pieces."""
    theirs, out = tmp_path / "theirs", tmp_path / "b.safetensors"
    theirs.mkdir()
    index = in_pieces(theirs, behind("module.", ONE))
    for source in (index, theirs):
        assert value(pretrained_ports.load(NAME, source)) == 1
    convert_file(theirs, out)
    before = read(out).metadata["source_sha256"]
    in_pieces(theirs, behind("module.", TWO))
    convert_file(index, out, overwrite=True)
    assert read(out).metadata["source_sha256"] != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[" * 100_000, "no list of the pieces"),
        ("{}", "no list of the pieces"),
        ('{"weight_map": 3}', "no list of the pieces"),
        ('{"weight_map": {"w": 3}}', "no list of the pieces"),
        ('{"weight_map": {"w": "../a.safetensors"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "/a.safetensors"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "a.index.json"}}', "names what is no checkpoint beside it"),
        ('{"weight_map": {"w": "a.safetensors"}}', "a.safetensors does not exist"),
        ('{"weight_map": {"w": "b.safetensors"}}', "b.safetensors has no tensor w, which"),
    ],
)
def test_lists_of_pieces_that_are_none(tmp_path, text, message):
    save_file({"v": VECTOR}, tmp_path / "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path / "model.safetensors.index.json")
    assert "\n" not in str(caught.value)


def test_folders_with_one_checkpoint_or_several(tmp_path):
    save_file(ONE, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"the same")
    assert value(pretrained_ports.load(NAME, tmp_path)) == 1
    save_file(TWO, tmp_path / "other.SAFETENSORS")
    with pytest.raises(CheckpointError, match=r"several checkpoints, name one: model\."):
        read(tmp_path)


@pytest.mark.parametrize("ending", [".SAFETENSORS", ".PTH", ".Pth.Tar", ".BIN"])
def test_endings_in_upper_case(tmp_path, ending):
    file = tmp_path / f"A{ending}"
    if ending == ".SAFETENSORS":
        save_file({"w": VECTOR}, file)
    else:
        write_zip(file, pickled({"w": tensor()}), {"0": bytes(24)})
    assert list(read(file).tensors) == ["w"]


def test_tensors_that_safetensors_left_out_since_they_are_anothers(tmp_path):
    """As its `save_model` does: the header says whose they are."""
    arrays = dict(ONE)
    del arrays["layer1.0.bn1.bias"], arrays["layer1.1.bn1.bias"]
    header = {name: "bn1.bias" for name in ONE if name not in arrays}
    save_file(arrays, tmp_path / "a.safetensors", header | {"format": "pt"})
    assert value(pretrained_ports.load(NAME, tmp_path / "a.safetensors")) == 1


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth is no regular file"):
        read(tmp_path / "a.pth")


def test_a_refusal_names_no_table_that_knows_any_key(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        pretrained_ports.load(NAME, opened({"stem.w": VECTOR, "head.w": VECTOR}, tmp_path))
    assert "known to" not in str(caught.value)
    assert "native-text" not in str(caught.value)
