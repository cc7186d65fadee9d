"""`fam-jax models` and `fam-jax convert`, as typed."""

import json

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

import pretrained_ports
from fam_jax.apps.main import app, main
from pretrained_ports.catalog import describe


def run(capsys, *args):
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    out = capsys.readouterr()
    return stopped.value.code, out.out, out.err


def test_models_lists_names_and_where_their_weights_are(capsys):
    code, out, err = run(capsys, "models")
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if line.startswith("resnet50 "))
    assert "23.5 M" in line
    assert "224 x 224 x 3" in line
    assert "timm/resnet50.tv_in1k" in line


def test_one_model_shows_its_layers_and_the_grid_of_its_maps(capsys):
    code, out, _ = run(capsys, "models", "tiny")
    assert code == 0
    assert "layer3, grid 16 x 16" in out
    assert "layer2.0" in out


def test_the_tokens_of_a_transformer_are_laid_out(capsys):
    code, out, _ = run(capsys, "models", "dinov2-small-reg4")
    assert code == 0
    assert "blocks.11.norm1, grid 37 x 37" in out
    (norm,) = (line for line in out.splitlines() if line.startswith("norm "))
    assert norm.split() == ["norm", "1", "x", "384"]  # the class token alone: no map


def test_unknown_models_are_one_line(capsys):
    code, out, err = run(capsys, "models", "rsnet50")
    assert (code, out) == (2, "")
    assert err.startswith("error: no model 'rsnet50'; the nearest names are: resnet50")
    assert err.count("\n") == 1


def listed(capsys, *args):
    code, out, err = run(capsys, "models", *args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)["models"]


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        ("resnet", lambda name, family: "resnet" in name or family == "ResNet"),
        ("DINOv2", lambda name, family: "dinov2" in name),
        ("conv-4", lambda name, family: family == "Conv-4"),
        ("vit-*-384", lambda name, family: name.startswith("vit-") and name.endswith("-384")),
    ],
)
def test_a_part_of_a_name_a_family_and_a_pattern_list_what_has_them(capsys, wanted, has):
    rows = {row["name"]: row for row in listed(capsys)}
    some = [name for name, row in rows.items() if has(name, row["family"])]
    assert 1 < len(some) < len(rows)
    assert listed(capsys, wanted) == [rows[name] for name in some]
    code, out, _ = run(capsys, "models", wanted)
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["name", *some])


def test_a_pipe_has_every_line_whole(capsys):
    _, out, _ = run(capsys, "models")
    lines = {line.split()[0]: line for line in out.splitlines()}
    for row in describe.table():
        for cell in (row.family, row.input, row.licence, row.source):
            assert cell in lines[row.name]


@pytest.mark.parametrize(("columns", "left_out"), [(80, "licence and weights: "), (300, None)])
def test_a_terminal_has_whole_names_and_the_columns_that_fit(
    capsys, monkeypatch, columns, left_out
):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    code, out, err = run(capsys, "models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    assert {*pretrained_ports.names()} <= {line.split()[0] for line in lines if line}
    assert "224 x 224 x 3" in out
    assert ("BSD-3-Clause" in out) == (left_out is None)
    assert lines[-1].startswith(left_out or "siglip2-")


def test_h_is_help_everywhere(capsys):
    for command in ((), *((name,) for name in typer.main.get_command(app).commands)):
        code, out, err = run(capsys, *command, "-h")
        assert (code, err) == (0, "")
        assert out == run(capsys, *command, "--help")[1]
        assert out.startswith(" ".join(("Usage: fam-jax", *command)))


def test_convert_writes_a_file_that_explain_takes(capsys, tmp_path):
    random = np.random.default_rng(0)
    tensors = {}
    for b in range(4):
        tensors[f"{4 * b}.weight"] = random.standard_normal((64, 64 if b else 3, 3, 3))
        tensors[f"{4 * b}.bias"] = random.standard_normal(64)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{4 * b + 1}.{leaf}"] = random.uniform(0.5, 1, 64)
    save_file(tensors, tmp_path / "a.safetensors")
    code, out, err = run(capsys, "convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (code, err) == (0, "")
    assert "dialect conv4-sequential; 24 tensors used, 0 ignored" in out
    assert out.endswith(f"wrote {tmp_path / 'b.safetensors'} (conv4)\n")
    assert (tmp_path / "b.safetensors").exists()


def test_convert_refuses_in_one_line_and_writes_nothing(capsys, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    code, out, err = run(capsys, "convert", tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_a_head_is_dropped_or_kept_and_nothing_else(capsys, tmp_path):
    files = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    code, out, err = run(capsys, "convert", *files, "--head", "kept")
    assert (code, out) == (2, "")
    assert err == "error: --head: expected one of drop, keep, got 'kept'; did you mean 'keep'?\n"
