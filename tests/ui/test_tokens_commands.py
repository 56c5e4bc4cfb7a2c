"""`unmask tokens`: made, listed, removed; shown once."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serve.access import Tokens
from serve.launch import LAPTOP
from ui.cli import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    content = yaml.safe_load(LAPTOP.read_text())
    content["applications"][0]["args"]["storage"] = str(tmp_path / "held")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "c.yaml"


def unmask(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["tokens", *arguments])
    return done.exit_code, done.stdout, str(done.exception or "") + done.stderr


def test_a_token_is_made_listed_and_removed(config: Path, tmp_path: Path) -> None:
    assert "its own machine only" in unmask("list", "--config", str(config))[1]
    code, out, said = unmask("add", "ann", "--role", "viewer", "--days", "2", "--config", str(config))
    assert code == 0 and "asks everybody for a token" in said
    found = Tokens(tmp_path / "held/tokens.json").find(out.strip())
    assert found is not None and (found.name, found.role) == ("ann", "viewer")
    listed = unmask("list", "--config", str(config))[1]
    assert "ann: viewer, 60 uploads a minute, 20 GiB of media, until 20" in listed and out.strip() not in listed
    code, _, told = unmask("remove", "ann", "--config", str(config))
    assert code == 0 and "the next token of that name" in told
    assert Tokens(tmp_path / "held/tokens.json").cards() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "a b"], "String should match pattern"),
        (["add", "ann", "--role", "king"], "there is no role 'king'"),
        (["remove", "bob"], "there is no token 'bob'"),
        (["list", "--config", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_what_is_asked_wrongly_is_said(config: Path, arguments: list[str], words: str) -> None:
    given = arguments if "--config" in arguments else [*arguments, "--config", str(config)]
    code, _, said = unmask(*given)
    assert code != 0 and words in said
