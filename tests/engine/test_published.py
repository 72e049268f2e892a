"""Published weights: the catalogue, what is said of absent ones, and fetching them from a server and a folder."""

from __future__ import annotations

import http.server
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.engine.servers import running
from tests.utils.remote.faulty_server import FaultyHandler
from ultralytics import RTDETR, fetch
from ultralytics.cli import entrypoint
from ultralytics.engine.published import locate_weights
from ultralytics.nn.build.spec import load_model_yaml
from ultralytics.nn.export.stock_state_dict import export_state_dict
from ultralytics.nn.export.transformers_folder import transformers_form, write_transformers
from ultralytics.nn.tasks import DFINEDetectionModel
from ultralytics.utils.config.yaml_io import YAML
from ultralytics.utils.errors import CheckpointError, ConfigError, NotFoundError
from ultralytics.utils.files import file_sha256
from ultralytics.utils.remote.catalogue import CATALOGUE, find_published, known_weights, published_weights
from ultralytics.utils.remote.pins import LOCK_NAME, HashPins


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smallest network under the names of two."""
    folder = tmp_path_factory.mktemp("mirror")
    file, _ = export_state_dict(DFINEDetectionModel("deimv2-atto.yaml", verbose=False), folder / "atto")
    for name in ("deimv2-atto.pth", "deimv2-femto.pth"):
        (folder / name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub has of a model."""
    model = DFINEDetectionModel("dfine-n.yaml", nc=2, verbose=False)
    model.names = {0: "tree", 1: "house"}
    folder = tmp_path_factory.mktemp("hub")
    write_transformers(transformers_form(model), folder, 640, "card")
    return folder


@pytest.fixture
def served(hub: Path, mirror: Path) -> Iterator[type[FaultyHandler]]:
    """A server of both folders by the last part of the path; the address is in `url`."""

    class Handler(FaultyHandler):
        requests: ClassVar[list[tuple[str, dict[str, str]]]] = []
        url = ""

        def do_GET(self) -> None:
            self.close_connection = True
            self.requests.append((self.path, dict(self.headers)))
            file = (hub if "/resolve/" in self.path else mirror) / self.path.rsplit("/", 1)[1]
            if file.is_file():
                self.send(file.read_bytes())
            else:
                self.send(b"", 404)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with running(server) as address:
        Handler.url = f"http://{address}"
        yield Handler


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own; its weights folder does not exist yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights"


# ----------------------------------------------------------------------------------------------------------- catalogue
def test_every_row_of_the_catalogue_is_complete() -> None:
    rows = YAML.load(CATALOGUE)
    files = [w.weights for w in published_weights()]
    assert len(files) == len(set(files)) == len(rows["weights"]) > 40
    for weights in published_weights():
        assert weights.licence and weights.page.startswith("https://") and weights.accuracy
        assert weights.model is None or load_model_yaml(weights.model).layers
        assert weights.weights.endswith((".pt", ".pth", ".safetensors")) and ".." not in weights.weights
        assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
        assert all(file.url.startswith("https://") for file in weights.files)
        assert weights.model or weights.keys or weights.family == "ultralytics"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtdetr-r18", "rtdetr-r18"),
        ("RTDETR_R18.pt", "rtdetr-r18"),
        ("rtdetr_r18vd_dec3_6x_coco_from_paddle.pth", "rtdetr-r18"),
        ("shvit_s4.safetensors", "shvit-s4"),
        ("hf:PekingU/rtdetr_r18vd", "hf:PekingU/rtdetr_r18vd"),
        ("hf:some-one/else@v1.0", "hf:some-one/else@v1.0"),
        ("best.pt", None),
        ("rtdetr-r18.yaml", None),
    ],
)
def test_names(text: str, name: str | None) -> None:
    found = find_published(text)
    assert (found and found.name) == name


@pytest.mark.parametrize("text", ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a b/c"])
def test_names_that_the_hub_cannot_have(text: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        find_published(text)


def test_a_wrong_name_has_near_ones() -> None:
    with pytest.raises(NotFoundError, match="rtdetr-r18"):
        known_weights("rtdter-r18")


# -------------------------------------------------------------------------------------------------------- absent names
@pytest.mark.parametrize("name", ["rtdetr-r18.pt", "dfine-s.pth", "hf:PekingU/rtdetr_r50vd"])
def test_absent_weights_say_what_to_do(name: str, folder: Path) -> None:
    found = known_weights(name)
    for use in (RTDETR, RTDETR.contents, RTDETR("rtdetr-resnet18.yaml", scale="l").load if name[0] == "d" else RTDETR):
        with pytest.raises(NotFoundError) as e:
            use(name)
        text = str(e.value)
        assert len(text.splitlines()) == 3
        assert all(part in text for part in (found.weights, found.address, str(folder), f"yolo fetch {found.name}"))


def test_weights_without_a_lasting_address(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="DEIM says where"):
        RTDETR("deim-s.pt")
    with pytest.raises(NotFoundError, match="mirror="):
        fetch("deim-s")


def test_other_paths_are_left_alone(tmp_path: Path) -> None:
    assert locate_weights("runs/rtdetr-r18.pt") == "runs/rtdetr-r18.pt" and locate_weights("best.pt") == "best.pt"
    (tmp_path / "rtdetr-r18.pt").write_text("mine")
    assert locate_weights("rtdetr-r18.pt") == "rtdetr-r18.pt"


# ------------------------------------------------------------------------------------------------------------ fetching
@pytest.mark.parametrize("kind", ["folder", "address"])
def test_fetch_then_use(kind: str, mirror: Path, served: type[FaultyHandler], folder: Path) -> None:
    source = str(mirror) if kind == "folder" else served.url  # type: ignore[attr-defined]
    (path,) = fetch("deimv2-atto", mirror=source)
    assert path == Path("weights/deimv2-atto.pth")
    assert sorted(p.name for p in folder.iterdir()) == ["deimv2-atto.pth", LOCK_NAME]
    assert HashPins(folder).sha256("deimv2-atto.pth") == file_sha256(path)
    model = RTDETR("deimv2-atto.pt")
    assert model.names[0] == "person" and len(model.names) == 80
    other = RTDETR({**load_model_yaml("deimv2-atto.yaml").data, "nc": 2})
    other.model.names = {0: "zebra", 1: "person"}
    other.load("deimv2-atto.pt")
    scores = (m.model.model[-1].enc_score_head.weight for m in (other, model))
    ours, theirs = scores
    assert (ours[0] == theirs[22]).all() and (ours[1] == theirs[0]).all()
    asked = len(served.requests)
    assert fetch(["deimv2-atto"], mirror=source) == [path] and len(served.requests) == asked


def test_a_folder_after_an_interrupted_transfer(mirror: Path, folder: Path) -> None:
    part = folder / ".deimv2-atto.pth.part"
    part.mkdir(parents=True)
    (part / "data").write_bytes(b"begun")
    (path,) = fetch("deimv2-atto", mirror=str(mirror))
    assert path.read_bytes() == (mirror / path.name).read_bytes()


def test_a_pinned_hash_holds(mirror: Path, folder: Path, tmp_path: Path) -> None:
    (path,) = fetch("deimv2-atto", mirror=str(mirror))
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    with pytest.raises(ConfigError, match="not the expected"):
        fetch("deimv2-atto", mirror=str(mirror))
    path.unlink()
    (tmp_path / "deimv2-atto.pth").write_bytes(good + b" ")
    with pytest.raises(ConfigError, match="not the expected"):
        fetch("deimv2-atto", mirror=str(tmp_path))
    assert [p.name for p in folder.iterdir()] == [LOCK_NAME]
    (folder / LOCK_NAME).write_text("{")
    with pytest.raises(ConfigError, match="not a lock file"):
        fetch("deimv2-atto", mirror=str(mirror))


def test_another_network_is_refused(mirror: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="not that of deimv2-femto"):
        fetch("deimv2-femto", mirror=str(mirror))
    with pytest.raises(NotFoundError, match="in the mirror"):
        fetch("deimv2-pico", mirror=str(mirror))
    assert not folder.exists()


def test_a_model_of_the_hub(served: type[FaultyHandler], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", served.url + "/")  # type: ignore[attr-defined]
    monkeypatch.setenv("HF_TOKEN", "secret")
    (path,) = fetch("hf:owner/trees@main")
    assert path == Path("weights/owner--trees@main/model.safetensors")
    assert [p for p, _ in served.requests] == [f"/owner/trees/resolve/main/{f}" for f in ("config.json", path.name)]
    assert all("Authorization" not in headers for _, headers in served.requests)  # never without encryption
    for name in ("hf:owner/trees@main", str(path.parent), str(path)):
        assert RTDETR(name).names == {0: "tree", 1: "house"}
    config = path.with_name("config.json")
    config.write_text(json.dumps({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    assert RTDETR(str(path)).names == {0: "0", 1: "1"}
    with pytest.raises(ConfigError, match="HF_ENDPOINT"):
        monkeypatch.setenv("HF_ENDPOINT", "ftp://x")
        fetch("hf:owner/trees")


def test_a_hub_without_the_model(served: type[FaultyHandler], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", served.url + "/absent/")  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        served.body = b""
        monkeypatch.setattr(served, "do_GET", lambda h: h.send(b"{}"))
        fetch("hf:owner/trees")
    assert not list(folder.rglob("*.safetensors"))


# -------------------------------------------------------------------------------------------------------- command line
def test_the_command(mirror: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint(["fetch", "deimv2-atto", f"mirror={mirror}", f"folder={folder}"])
    assert (folder / "deimv2-atto.pth").is_file()
    capsys.readouterr()
    entrypoint(["fetch"])
    listed = capsys.readouterr().out.splitlines()
    assert any("deimv2-atto" in line and " yes " in line for line in listed)
    assert any("deim-s" in line and "by hand" in line for line in listed)
    assert any("AP 46.5" in line for line in listed)
    with pytest.raises(SystemExit):
        entrypoint(["fetch", "rtdetr-r19"])
