"""Public checkpoints: listed, asked for, fetched, checked; from a hub on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from magictalk.app.cli import main
from magictalk.errors import WeightsError
from magictalk.render.diffusion.public import PARTS, File, listing, place, pull, require

sys.path.insert(0, str(Path(__file__).parent))
from hub import Hub, running


@pytest.fixture
def hub() -> Iterator[Hub]:
    content = {
        part.repository: {name: f"{part.role} {name}".encode() * 50 for name in part.files} | {"README.md": b"x"}
        for part in PARTS
    }
    with running(content) as hub:
        yield hub


def test_the_listing_states_sizes_and_licences(hub: Hub) -> None:
    files = listing(endpoint=hub.endpoint)
    assert len(files) == sum(len(part.files) for part in PARTS)
    for file in files:
        assert file.size == len(hub.repositories[file.part.repository][file.name])
        assert file.licence == "test-licence" and (file.sha256 is not None) == file.name.endswith("safetensors")
    assert not hub.asked


def test_what_is_fetched_lies_in_its_place_once(hub: Hub, tmp_path: Path) -> None:
    files, lines = listing(endpoint=hub.endpoint), []
    pull(files, tmp_path, hub.endpoint, lines.append)
    for file in files:
        assert place(tmp_path, file).read_bytes() == hub.repositories[file.part.repository][file.name]
    assert len(hub.asked) == len(lines) == len(files)
    require(tmp_path, *(part.role for part in PARTS))
    place(tmp_path, files[3]).unlink()
    pull(files, tmp_path, hub.endpoint, lines.append)
    assert len(hub.asked) == len(files) + 1


def test_what_comes_damaged_is_dropped(hub: Hub, tmp_path: Path) -> None:
    hub.lies.add("unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsError, match=r"unet/diffusion_pytorch_model.safetensors of SG161222.* came damaged"):
        pull(listing(endpoint=hub.endpoint), tmp_path, hub.endpoint, lambda line: None)
    assert not (tmp_path / "base/unet/diffusion_pytorch_model.safetensors").exists()
    hub.lies.clear()
    pull(listing(endpoint=hub.endpoint), tmp_path, hub.endpoint, lambda line: None)


def test_a_hub_that_is_down_or_lacks_a_file_is_said(hub: Hub) -> None:
    del hub.repositories[PARTS[1].repository]["config.json"]
    with pytest.raises(WeightsError, match=r"sd-vae-ft-mse no longer has config\.json"):
        listing(endpoint=hub.endpoint)
    del hub.repositories[PARTS[1].repository]
    with pytest.raises(WeightsError, match="the hub does not tell of stabilityai/sd-vae-ft-mse"):
        listing(endpoint=hub.endpoint)


def test_no_hub_at_all_is_said(hub: Hub) -> None:
    hub.close()
    with pytest.raises(WeightsError, match=r"the hub does not tell of SG161222.*; try again later"):
        listing(endpoint=hub.endpoint)


def test_no_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    huge = File(PARTS[1], "config.json", 10**18, None, "mit")
    with pytest.raises(WeightsError, match=r"1000000000.0 GB are to be fetched, .* has room for"):
        pull([huge], tmp_path)


def test_missing_files_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no folder of weights at .*none; fetch them: magictalk weights pull"):
        require(tmp_path / "none", "vae")
    with pytest.raises(WeightsError, match=r"no vae/config.json in .*; fetch it: magictalk weights pull magic-talk -o"):
        require(tmp_path, "vae")


class TestCommand:
    def test_it_asks_and_takes_no_for_an_answer(
        self, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
        main(["weights", "pull", "magic-talk", "-o", str(tmp_path / "w"), "--endpoint", hub.endpoint])
        said = capsys.readouterr().out
        assert "licence: test-licence" in said and "in all 0.00 GB" in said and "nothing was fetched" in said
        assert "not fetched: identity" in said
        assert not hub.asked and not (tmp_path / "w").exists()

    def test_yes_fetches(self, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["weights", "pull", "magic-talk", "-o", str(tmp_path / "w"), "--endpoint", hub.endpoint, "--yes"])
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "w")
        require(tmp_path / "w", *(part.role for part in PARTS))

    def test_what_ships_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["weights", "list"])
        assert {"audio2bs", "emodiff", "sync"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}
