from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import ultralytics
from ultralytics.cfg import MODES
from ultralytics.cli import grammar
from ultralytics.cli import main as cli
from ultralytics.cli.help import overview
from ultralytics.cli.tools import TOOLS
from ultralytics.utils import SETTINGS
from ultralytics.utils.config.paths import DEFAULT_CFG_PATH
from ultralytics.utils.errors import ConfigError, UnknownArgumentError, UserError


class FakeModel:
    """Records how it is called."""

    calls: list[tuple[Any, ...]] = []  # noqa: RUF012

    def __init__(self, model: str, scale: str | None = None) -> None:
        self.calls.append(("model", model, scale))

    def train(self, **kwargs: Any) -> None:
        self.calls.append(("train", kwargs))

    def val(self, **kwargs: Any) -> None:
        self.calls.append(("val", kwargs))

    def info(self, **kwargs: Any) -> None:
        self.calls.append(("info", kwargs))

    def totals(self, imgsz: int) -> int:
        self.calls.append(("totals", imgsz))
        return len(self.calls)

    @staticmethod
    def comparison(totals: Sequence[int]) -> list[tuple[str, str]]:
        return [("model", "count"), *(("m", str(t)) for t in totals)]

    def predict(self, **kwargs: Any) -> Iterator[int]:
        yield 1
        self.calls.append(("predict", kwargs))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setattr(FakeModel, "calls", [])
    monkeypatch.setattr(ultralytics, "RTDETR", FakeModel, raising=False)
    return FakeModel.calls


@pytest.mark.parametrize(
    ("pieces", "want"),
    [
        ([], []),
        (["a=1"], ["a=1"]),
        (["a", "=", "1"], ["a=1"]),
        (["a=", "1"], ["a=1"]),
        (["a", "=1"], ["a=1"]),
        (["--a=1,"], ["a=1"]),
        (["a=[1,", "2]", "b=3"], ["a=[1,2]", "b=3"]),
        (["a=[[1,2],", "[3]]"], ["a=[[1,2],[3]]"]),
        (["a=[1,", "-2]"], ["a=[1,-2]"]),
        (["train", "a=1", "plots"], ["train", "a=1", "plots"]),
        (["source=a=b.jpg"], ["source=a=b.jpg"]),
        (["source=x[1].jpg"], ["source=x[1].jpg"]),
        (["'best.pt'", "'model=b.pt'"], ["best.pt", "model=b.pt"]),
    ],
)
def test_join_pieces(pieces: list[str], want: list[str]) -> None:
    assert grammar.join_pieces(pieces) == want


@pytest.mark.parametrize("pieces", [["a=[1"], ["a=[1]]"], ["a="], ["=1"], ["a", "="], ["="]])
def test_join_pieces_refuses(pieces: list[str]) -> None:
    with pytest.raises(ConfigError):
        grammar.join_pieces(pieces)


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        ([], {}),
        (["epochs=3", "lr0=1e-3"], {"epochs": 3, "lr0": 0.001}),
        (["plots", "half", "val"], {"plots": True, "half": True, "val": True}),
        (
            ["plots=False", "save=true", "model=None", "conf=NONE"],
            {"plots": False, "save": True, "model": None, "conf": None},
        ),
        (["device=0,1"], {"device": (0, 1)}),
        (["device=cpu"], {"device": "cpu"}),
        (["imgsz=640,320", "classes=[0, 2]"], {"imgsz": (640, 320), "classes": [0, 2]}),
        (["name=007", "project=1e3", "model=1.pt"], {"name": "007", "project": "1e3", "model": "1.pt"}),
        (["cache=ram", "amp=bf16", "scale=n"], {"cache": "ram", "amp": "bf16", "scale": "n"}),
        (["source=0"], {"source": 0}),
        (["model='b.pt'", "split='val'", "epochs='3'"], {"model": "b.pt", "split": "val", "epochs": 3}),
        (['source="a b.jpg"', "name='7"], {"source": "a b.jpg", "name": "'7"}),
        (["source=C:\\a b.jpg"], {"source": "C:\\a b.jpg"}),
        (["source=__import__('os').system('true')"], {"source": "__import__('os').system('true')"}),
        (["line_thickness=3", "label_smoothing=0.1"], {"line_thickness": 3, "label_smoothing": 0.1}),
        (["epochs=1", "epochs=2"], {"epochs": 2}),
    ],
)
def test_parse_overrides(argv: list[str], want: dict[str, Any]) -> None:
    assert grammar.parse_overrides(argv) == want


@pytest.mark.parametrize(
    ("argv", "error", "token"),
    [
        (["epoch=3"], UnknownArgumentError, "epochs"),
        (["epochs"], ConfigError, "epochs=100"),
        (["trian"], UnknownArgumentError, "train"),
        (["qqqqqqq"], UnknownArgumentError, "yolo help"),
    ],
)
def test_parse_overrides_refuses(argv: list[str], error: type[UserError], token: str) -> None:
    with pytest.raises(error, match=token):
        grammar.parse_overrides(argv)


@pytest.mark.parametrize(
    ("tokens", "model", "method", "arguments"),
    [
        ("detect train model=m.yaml data=d.yaml epochs=3", ("m.yaml", None), "train", {"data": "d.yaml", "epochs": 3}),
        (
            "epochs = 3 data=d.yaml train model=m.yaml detect",
            ("m.yaml", None),
            "train",
            {"data": "d.yaml", "epochs": 3},
        ),
        (
            "mode=train model=m.yaml data=d.yaml mosaic=False",
            ("m.yaml", None),
            "train",
            {"data": "d.yaml", "mosaic": 0.0},
        ),
        (
            "train model=m.yaml scale=n data=d.yaml",
            ("m.yaml", "n"),
            "train",
            {"data": "d.yaml", "model_scale": "n"},
        ),
        ("train", ("rtdetr-l.yaml", None), "train", {"data": "demo.yaml"}),
        ("train resume=last.pt", ("last.pt", None), "train", {"resume": "last.pt"}),
        ("model=m.yaml", ("m.yaml", None), "train", {"data": "demo.yaml"}),
        ("model=b.pt source=x", ("b.pt", None), "predict", {"source": "x", "save": True, "stream": True}),
        ("val 'b.pt'", ("b.pt", None), "val", {}),
        ("val model=b.pt plots=False", ("b.pt", None), "val", {"plots": False}),
        ("predict model=b.pt source=x", ("b.pt", None), "predict", {"source": "x", "save": True, "stream": True}),
        (
            "predict model=b.pt source=x save=False",
            ("b.pt", None),
            "predict",
            {"source": "x", "save": False, "stream": True},
        ),
        ("info model=m.yaml imgsz=320", ("m.yaml", None), "info", {"detailed": True, "verbose": True, "imgsz": 320}),
        ("info m.yaml", ("m.yaml", None), "info", {"detailed": True, "verbose": True, "imgsz": 640}),
    ],
)
def test_a_line_becomes_a_call(
    tokens: str, model: tuple[str, str | None], method: str, arguments: dict[str, Any], calls: list[tuple[Any, ...]]
) -> None:
    cli.entrypoint(tokens.split())
    assert calls == [("model", *model), (method, arguments)]


def test_resume_opens_the_newest_run(
    tmp_path: Path,
    calls: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for age, name in enumerate(("new", "old", "other/newest")):
        last = tmp_path / "runs" / name / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        last.touch()
        os.utime(last, (1e9 - 10 * age, 1e9 - 10 * age))
    os.utime(last, (2e9, 2e9))
    monkeypatch.chdir(tmp_path)
    cli.entrypoint(["train", "resume=True"])
    cli.entrypoint(["train", "resume", "project=runs/new"])
    assert [c[1] for c in calls if c[0] == "model"] == [
        "runs/other/newest/weights/last.pt",
        "runs/new/weights/last.pt",
    ]
    assert "is missing" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.entrypoint(["train", "resume=True", f"project={tmp_path / 'none'}"])
    assert f"no last.pt below {tmp_path / 'none'}" in capsys.readouterr().err


def test_info_on_several_models(calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint(["info", "a.yaml", "b.pt", "imgsz=320"])
    assert [c[1] for c in calls if c[0] == "model"] == ["a.yaml", "b.pt"]
    assert [c[1] for c in calls if c[0] == "totals"] == [320, 320]
    assert capsys.readouterr().out.splitlines() == ["model  count", "m          3", "m          4"]


def test_info_takes_what_it_needs_from_a_cfg_file(tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    """The file of a training run serves as it is."""
    (tmp_path / "my.yaml").write_text("model: m.yaml\ndata: d.yaml\nepochs: 3\nimgsz: 320\n")
    cli.entrypoint(["info", f"cfg={tmp_path / 'my.yaml'}", "scale=n"])
    assert calls == [("model", "m.yaml", "n"), ("info", {"detailed": True, "verbose": True, "imgsz": 320})]


def test_direct_arguments_win_over_a_cfg_file(tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    (tmp_path / "my.yaml").write_text("model: m.yaml\ndata: d.yaml\nepochs: 3\nbatch: 2\n")
    cli.entrypoint(["train", f"cfg={tmp_path / 'my.yaml'}", "batch=4"])
    assert calls == [("model", "m.yaml", None), ("train", {"data": "d.yaml", "epochs": 3, "batch": 4})]


def test_a_full_copy_passes_only_its_changes(tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    copy = DEFAULT_CFG_PATH.read_text(encoding="utf-8").replace("epochs: 100", "epochs: 3")
    (tmp_path / "copy.yaml").write_text(copy, encoding="utf-8")
    cli.entrypoint(["train", "model=m.yaml", "data=d.yaml", f"cfg={tmp_path / 'copy.yaml'}", "lr0=0.01"])
    assert calls[1] == ("train", {"data": "d.yaml", "epochs": 3, "lr0": 0.01})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("train epoch=3", "epochs"),
        ("train epochs=0", "at least 1"),
        ("train val", "one mode"),
        ("val", "val needs model="),
        ("info", "model="),
        ("info m.yaml epochs=3", "epochs=3 has no effect on info"),
        ("info m.yaml plots", "plots=True has no effect on info"),
        ("info m.yaml scale=0.5", "scale=0.5 has no effect on info"),
        ("info a.yaml b.yaml conf=0.5 format=markdown", "conf=0.5 has no effect on info"),
        ("info b.pt imgsz=320", "imgsz=320 has no effect on info"),
        ("info b.pt scale=n", "scale=n has no effect on info"),
        ("info model=b.pt modules=mine.py", "format=text"),
        ("segment train", "not part of this package"),
        ("tune model=b.pt", "tune needs data="),
        ("train tune=1", "'tune' is a command: yolo tune"),
        ("predict model=b.pt source=x size=320", "did you mean imgsz?"),
        ("--model b.pt train", "--model b.pt: arguments are key=value pairs"),
        ("predict best.pt source=x", "Did you mean model=best.pt?"),
        ("predict model=b.pt a.jpg", "Did you mean source=a.jpg?"),
        ("train model=b.pt my.yaml", "Did you mean model=my.yaml or data=my.yaml?"),
        ("train -m b.pt", "-m: options with one dash do not exist"),
        ("help qqq", "there is no help on 'qqq'"),
        ("track source=a.mp4", "track needs model="),
        ("benchmark", "needs model="),
        ("export", "needs model="),
        ("train cfg=none.yaml", "none.yaml"),
        ("train model=", "key=value"),
        ("settings runs=x", "runs_dir"),
        ("settings runs_dir", "not a key=value pair"),
    ],
)
def test_an_error_takes_at_most_three_lines(
    argv: str, message: str, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as e:
        cli.entrypoint(argv.split())
    err = capsys.readouterr().err
    assert e.value.code == 1 and err.startswith("ERROR ❌ ") and message in err
    assert len(err.splitlines()) <= 3 and "Traceback" not in err
    assert not [c for c in calls if c[0] != "model"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a", "b", "c", "d"), 1, "ERROR ❌ a\nb\nc\n"),
        (UserError(), 1, "ERROR ❌ UserError\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (KeyboardInterrupt(int(signal.SIGTERM)), 143, "\ninterrupted\n"),
        (KeyboardInterrupt(1), 129, "\ninterrupted\n"),
        (PermissionError(13, "Permission denied", "runs/x"), 1, "ERROR ❌ Permission denied: runs/x\n"),
        (OSError(28, "No space left on device"), 1, "ERROR ❌ No space left on device: a file of this run\n"),
        (NotADirectoryError(20, "Not a directory", "a/b"), 1, "ERROR ❌ Not a directory: a/b\n"),
        (UserError("x" * 100_000), 1, "ERROR ❌ x"),
        (UserError("\x1b[2J\x1b]0;title\x07name"), 1, "ERROR ❌ name\n"),
    ],
)
def test_user_errors(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e, cli.user_errors():
        raise error
    shown = capsys.readouterr().err
    assert e.value.code == code and shown.startswith(message) and len(shown) < 1000 and "\x1b" not in shown


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In a run that trains the trainer listens; at all other times files are closed and the status says why."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)
    closed = []
    try:
        with pytest.raises(SystemExit) as e, cli.user_errors():
            try:
                signal.raise_signal(number)
            finally:
                closed.append(name)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (e.value.code, closed) == (code, [name]) and capsys.readouterr().err == "\ninterrupted\n"


def test_an_error_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has been closed: writing fails, the exit status stays."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.raises(SystemExit) as e, cli.user_errors():
        raise KeyboardInterrupt(1)
    assert e.value.code == 129


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), cli.user_errors():
        _ = 1 / 0


@pytest.mark.parametrize("token", ["help", "--help", "-h", "h", "HELP"])
def test_help(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint([token])
    assert capsys.readouterr().out == overview()
    cli.entrypoint([])
    assert capsys.readouterr().out == overview()


@pytest.mark.parametrize("argv", ["help train", "train help", "train --help", "train model=m.yaml -h"])
def test_help_on_a_mode_lists_its_arguments_by_group(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint(argv.split())
    text = capsys.readouterr().out
    assert text.startswith("yolo [TASK] train") and "\nAugmentation\n" in text and "  epochs=100 " in text
    assert "overlap_mask" not in text and max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("topic", [*MODES, *TOOLS, "imgsz"])
def test_help_on_each_topic(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint(["help", topic])
    assert topic in capsys.readouterr().out


def test_weights_that_know_their_data_set_train_on_it(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeModel, "overrides", {"data": "mine.yaml"}, raising=False)
    cli.entrypoint(["train", "model=b.pt"])
    assert calls == [("model", "b.pt", None), ("train", {})]
    assert "data=" not in capsys.readouterr().out


@pytest.mark.parametrize("token", ["version", "--version", "v"])
def test_version(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint([token])
    assert capsys.readouterr().out == f"{ultralytics.__version__}\n"


def test_cfg_and_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    cli.entrypoint(["cfg"])
    assert capsys.readouterr().out == DEFAULT_CFG_PATH.read_text(encoding="utf-8")
    cli.entrypoint(["copy-cfg"])
    assert (tmp_path / cli.COPY_NAME).read_text(encoding="utf-8") == DEFAULT_CFG_PATH.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        cli.entrypoint(["copy-cfg"])


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(SETTINGS, "_changes", None)
    cli.entrypoint(["settings"])
    assert "runs_dir: runs" in capsys.readouterr().out and not list(tmp_path.iterdir())
    cli.entrypoint(["settings", "runs_dir=1e3", "tensorboard=True"])
    assert (SETTINGS["runs_dir"], SETTINGS["tensorboard"]) == ("1e3", True)
    cli.entrypoint(["settings", "reset"])
    assert SETTINGS["runs_dir"] == "runs"


def test_checks(capsys: pytest.CaptureFixture[str]) -> None:
    cli.entrypoint(["checks"])
    out = capsys.readouterr().out
    assert "imported from" in out and str(DEFAULT_CFG_PATH.parents[2]) in out


@pytest.mark.parametrize("end", ["| head -1", ">&-", "> /dev/full"])
@pytest.mark.parametrize("command", ["cfg", "nonsense"])
def test_an_output_that_is_not_read_ends_in_no_traceback(command: str, end: str) -> None:
    """The reader has gone, there is no output, or its disk is full."""
    if end.endswith("full") and not Path("/dev/full").exists():
        pytest.skip("this system has no full device")
    environment = {**os.environ, "PYTHONPATH": str(Path(ultralytics.__file__).parents[1])}
    line = f"{shlex.quote(sys.executable)} -m ultralytics {command} {end}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment)
    assert "Traceback" not in done.stderr and "Logging error" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
