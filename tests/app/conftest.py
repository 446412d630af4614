"""The command line, called as a user would, and what every error of the user's must look like."""

import pytest

from magictalk.app.cli import main


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            main([str(a) for a in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def fails(run, tmp_path):
    """Run something that must end in one clear line and leave no file."""

    def call(*arguments: object, says: str) -> None:
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (out, err)
        assert err.startswith("error: ") and err.count("\n") == 1 and says in err, err
        assert list(tmp_path.iterdir()) == []

    return call
