"""The environment of the image, made as the Dockerfile makes it, serves what was trained elsewhere."""

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pandas as pd
import pytest
from serving_here import RealServer, fetch, url_of

from ledger.ledger import open_ledger

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

PROJECT = Path(__file__).resolve().parents[2]


def copied(dockerfile: str) -> list[str]:
    """What the stage that installs the package copies out of the project."""
    stage = dockerfile.partition("AS build")[2].partition("\nFROM")[0]
    return [source for each in re.findall(r"^COPY (?!--from)(.+) \S+$", stage, re.MULTILINE) for source in each.split()]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The python of an environment with the image's requirements, and dealcast installed from the image's files."""
    folder = tmp_path_factory.mktemp("image")
    build, environment = folder / "build", folder / "environment"
    for source in copied((PROJECT / "Dockerfile").read_text()):
        copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy2
        (build / source).parent.mkdir(parents=True, exist_ok=True)
        copy(PROJECT / source, build / source)
    venv.create(environment)
    install = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", str(environment)]
    requirements = ["--require-hashes", "--no-deps", "-r", str(build / "requirements" / "serve.txt")]
    for what in (requirements, ["--no-deps", str(build)]):
        subprocess.run([*install, *what], check=True, cwd=folder)
    return environment / "bin" / "python"


def test_the_environment_of_the_image_serves_what_was_trained_elsewhere(workspace, view, tmp_path, python):
    key = open_ledger(url_of(workspace)).create_key("crm", ["read"], now=pd.Timestamp.now("UTC").as_unit("us"))[0]
    scored = view[3].set_index("deal_id")["win_probability"]
    server = RealServer(workspace, tmp_path / "serve.log", python=python, PYTHONPATH="")
    try:
        server.until_ready()
        status, answer = fetch(f"{server.url}/v1/score", body={"deal_ids": list(scored.index[:1000])}, key=key)
        assert status == 200
        told = {score["deal_id"]: score["win_probability"] for score in answer["scores"]}
        assert told == pytest.approx(scored.iloc[:1000].to_dict(), abs=1e-9)
        assert fetch(f"{server.url}/login")[0] == 200
    finally:
        server.kill()
