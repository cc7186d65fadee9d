"""What is published: the files of wheel and sdist, and what their metadata says of them."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import fam_jax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
PACKAGES = ("fam_jax/", "pretrained_ports/")
# Beside the packages, what it takes to run the tests and to read the documents.
FOLDERS = ("tests/", "examples/", "benchmarks/", "docs/")
FILES = {
    "pyproject.toml",
    "conftest.py",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "mkdocs.yml",
    ".gitignore",
}


@pytest.fixture(scope="module")
def listed():
    """The files of the repository, those to be added to it among them."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository: compares with its files")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    command += ["--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name for name in names.split("\0") if name}


@pytest.fixture(scope="module")
def built(listed, tmp_path_factory):
    """The folder with the wheel and the sdist, the wheel being built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    # No isolation, so no network: hatchling is in the extra `test`.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return out


def test_the_wheel_holds_both_packages_and_nothing_else(built, listed):
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        names = set(wheel.namelist())
        info = f"{file.name.split('-py3')[0]}.dist-info"
        metadata = wheel.read(f"{info}/METADATA").decode()
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    ours = {name for name in listed if name.startswith(PACKAGES)}
    assert names == ours | about | {f"{info}/licenses/LICENSE"}
    assert {f"{package}py.typed" for package in PACKAGES} <= ours
    assert "pretrained_ports/weights/tiny.safetensors" in ours
    for line in ("Author: The fam_jax authors", "Project-URL: Repository, https://", "# fam_jax"):
        assert f"\n{line}" in metadata, line


def test_the_sdist_holds_the_tests_and_documents_as_well(built, listed):
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    ours = {name for name in listed if name.startswith((*PACKAGES, *FOLDERS))}
    assert names == ours | FILES | {"PKG-INFO"}


def test_the_version_is_that_of_the_project(monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    assert fam_jax.__version__ == metadata.version("fam-jax")
    monkeypatch.setattr(metadata, "version", missing)
    assert fam_jax.__version__ == "0+unknown"
    assert "__version__" in dir(fam_jax)


def test_every_python_that_is_claimed_is_tried():
    file = ROOT / ".github" / "workflows" / "ci.yml"
    if not file.exists():
        pytest.skip("needs the repository: the workflow is not published")
    workflow = yaml.safe_load(file.read_text())
    start = "Programming Language :: Python :: 3."
    claimed = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(start)]
    matrix = workflow["jobs"]["versions"]["strategy"]["matrix"]
    assert matrix["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    (lowest,) = matrix["include"]
    assert lowest == {"python": claimed[0], "resolution": "lowest-direct"}

    runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    (test,) = re.findall(r"^```sh test\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert {".ci/run", "python .ci/smoke.py", test} <= set(runs)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert citation["preferred-citation"]["url"] in README


def test_the_changelog_knows_this_version():
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_the_addresses_of_the_project_are_in_it():
    urls = dict(PROJECT["urls"])
    repository = urls.pop("Repository")
    assert urls.pop("Issues") == f"{repository}/issues"
    for url in urls.values():
        assert (ROOT / url.removeprefix(repository).split("/main/")[1]).exists(), url
