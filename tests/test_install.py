"""docs/install.md: the files, paths and names in it are those of the image, the unit and the manifests."""

import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from exporter.ledger.database import LEDGER_FILE
from exporter.ledger.ledger import Ledger
from tests.test_architecture import ROOT
from tests.test_docs import code
from tests.test_systemd import find_settings

PAGE = ROOT / "docs" / "install.md"
TYPED = code(PAGE)
VERSION = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())


def lines(word: str) -> list[list[str]]:
    """The commands that begin with a word, `sudo` and variables before it left out, each as a list of words."""
    whole = TYPED.replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in whole if "'" not in line or line.count("'") % 2 == 0]
    bare = [words[next((at for at, one in enumerate(words) if one != "sudo" and "=" not in one), 0) :] for words in split]
    return [words for words in bare if words and Path(words[0]).name == word]


def test_files_named_are_there():
    """
    Each path of the repository that somebody may type exists.
    """
    named = set(re.findall(r"(?<![\w/.])(?:deploy|requirements|scripts|prometheus)/[\w./-]+", TYPED)) | {"config.example.yaml"}

    assert len(named) > 4
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_systemd_finds_what_was_installed():
    """
    What is put into /etc and /opt is what the unit takes from there.
    """
    loaded = {source for one in find_settings("LoadCredential") for source in [one.partition(":")[2]]}
    put = {words[-1] for words in lines("install")}

    assert "/etc/utility-exporter/config.yaml" in loaded & put
    assert any(path.startswith("/etc/utility-exporter/secrets/") for path in put)
    assert "/etc/utility-exporter/secrets/" in loaded
    assert find_settings("ExecStart")[0].startswith("/opt/utility-exporter/bin/utility-exporter ")
    assert [words[-1] for words in lines("python3") if words[1:3] == ["-m", "venv"]] == ["/opt/utility-exporter"]


def test_the_image_is_the_one_that_is_built():
    """
    `docker run` names the image that `make image` makes, its volume and its port; a user of its own reads the configuration.
    """
    assert VERSION
    runs = lines("docker")
    mounts = [word for words in runs for word in words if ":/" in word]
    image = f"utility-exporter:{VERSION[1]}"
    text = (ROOT / "Dockerfile").read_text()

    assert [words for words in runs if words[1] == "run" and image not in words] == []
    assert {mount.split(":")[1] for mount in mounts} == {"/etc/utility-exporter", "/data"}
    assert "VOLUME /data\n" in text
    assert "--config.file=/etc/utility-exporter/config.yaml" in text
    assert lines("chown")[0][2] in text


def test_kubernetes_finds_its_secret():
    """
    The Secret that is made has the name and the namespace of the manifests, and the key of the example.
    """
    (words,) = [words for words in lines("kubectl") if words[1:3] == ["create", "secret"]]
    secret = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "secret.example.yaml").read_text())

    assert words[-1] == secret["metadata"]["name"]
    assert f"--namespace={secret['metadata']['namespace']}" in words
    assert [Path(word).name for word in words if word.startswith("--from-file=")] == list(secret["stringData"])


@pytest.mark.parametrize("left", ["after", "before"])
def test_the_backup_is_a_ledger(tmp_path, left):
    """
    The command, typed while the ledger is open or after, makes a file that the program opens, with all that was in it.
    """
    (line,) = [words for words in lines("python3") if words[1] == "-c"]
    ledger = Ledger(tmp_path / "data")
    ledger.open_account("home", portal="cem", zone="Europe/Prague", login="x")
    if left == "before":
        ledger.close()
    (tmp_path / "restored").mkdir()
    words = [sys.executable, *line[1:-2], str(tmp_path / "data" / LEDGER_FILE), str(tmp_path / "restored" / LEDGER_FILE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if left == "after":
        ledger.close()

    assert (done.returncode, done.stderr) == (0, "")
    assert line[-2:] == [f"data/{LEDGER_FILE}", "backup.sqlite"]
    with Ledger(tmp_path / "restored"), closing(sqlite3.connect(tmp_path / "restored" / LEDGER_FILE)) as copy:
        assert copy.execute("SELECT name FROM account").fetchall() == [("home",)]
