"""The part of a file that is the network is found, whatever stands around and beside it."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import pretrained_ports
from pretrained_ports.checkpoints import Checkpoint, CheckpointError, read
from pretrained_ports.conversion import find_model
from tests.commands import run
from tests.ports.theirs import behind, one_value, opened, tensors

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


@pytest.mark.parametrize("case", FILES)
def test_what_is_around_and_beside_is_ignored(case, tmp_path):
    content, beside = FILES[case]
    checkpoint = opened(content, tmp_path)
    backbone = pretrained_ports.load(NAME, checkpoint)
    assert one_value(backbone) == 1
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
    assert one_value(backbone) == 1
    assert (backbone.report.entry, backbone.report.others) == (taken, (other,))
    said = f"entry {taken} was taken; {other} fits, too: entry= (--entry)"
    assert said in str(backbone.report)
    again = pretrained_ports.load(NAME, checkpoint, entry=other)
    assert one_value(again) == 2
    assert again.report.entry == other
    assert not again.report.choices()


def test_of_two_networks_with_unknown_names_neither_is_taken(tmp_path):
    checkpoint = opened(behind("online.", ONE) | behind("target.", TWO), tmp_path)
    refusal = r"holds cifar-resnet20 2 times, in online, target; say which with entry="
    with pytest.raises(CheckpointError, match=refusal):
        pretrained_ports.load(NAME, checkpoint)
    with pytest.raises(CheckpointError, match=r"holds a network 2 times, in online, target"):
        find_model(checkpoint)
    assert one_value(pretrained_ports.load(NAME, checkpoint, entry="target")) == 2


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
    assert one_value(backbone) == 1
    wrapped = opened({"epoch": 3, "model": FOR_EVERY_MODULE[case]}, tmp_path)
    assert find_model(wrapped) == NAME
    backbone = pretrained_ports.load(NAME, wrapped)
    assert one_value(backbone) == 1
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
    assert one_value(pretrained_ports.load(NAME, out)) == 2


def test_a_refusal_names_no_table_that_knows_any_key(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        pretrained_ports.load(NAME, opened({"stem.w": VECTOR, "head.w": VECTOR}, tmp_path))
    assert "known to" not in str(caught.value)
    assert "native-text" not in str(caught.value)
