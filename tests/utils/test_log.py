from __future__ import annotations

import io
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import ultralytics
from ultralytics.utils.log import LOGGER, ConsoleHandler, ProgressBar, colorstr, get_logger, write_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (("",), "\033[34m\033[1m\033[0m"),
        (("text",), "\033[34m\033[1mtext\033[0m"),
        (("red", "bold", "text"), "\033[31m\033[1mtext\033[0m"),
    ],
)
def test_colorstr(args: tuple[str, ...], want: str) -> None:
    assert colorstr(*args) == want


def test_colorstr_refuses_an_unknown_style() -> None:
    with pytest.raises(KeyError):
        colorstr("purple", "text")


@pytest.mark.parametrize(
    ("level", "want"),
    [
        (logging.DEBUG, ""),
        (logging.INFO, "hello\n"),
        (logging.WARNING, "WARNING ⚠️ hello\n"),
        (logging.ERROR, "ERROR ❌ hello\n"),
    ],
)
def test_messages_carry_their_prefix(level: int, want: str, capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.log(level, "hello")
    assert capsys.readouterr().out == want


def test_the_handler_is_attached_once() -> None:
    assert get_logger() is get_logger() is LOGGER
    ours = [h for h in LOGGER.handlers if type(h).__module__ == "ultralytics.utils.log"]  # the test runner adds its own
    assert len(ours) == 1 and not LOGGER.propagate


@pytest.mark.parametrize(
    ("env", "level"),
    [
        ({}, logging.INFO),
        ({"YOLO_VERBOSE": "false"}, logging.ERROR),
        ({"WORLD_SIZE": "2", "RANK": "1"}, logging.ERROR),
        ({"WORLD_SIZE": "2", "RANK": "0"}, logging.INFO),
        ({"RANK": "1"}, logging.INFO),
    ],
)
def test_level_by_rank_and_environment(
    env: dict[str, str], level: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for name in ("YOLO_VERBOSE", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert get_logger(f"test.{request.node.name}").level == level


def test_colours_go_to_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        write_text(stream, colorstr("red", "x"))
    assert (plain.getvalue(), terminal.getvalue()) == ("x", "\033[31mx\033[0m")
    monkeypatch.setenv("NO_COLOR", "1")
    write_text(terminal, colorstr("red", "y"))
    assert terminal.getvalue().endswith("0my")


def test_a_narrow_encoding_does_not_raise() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_text(stream, "ERROR ❌ café")
    assert raw.getvalue() == b"ERROR ? caf?"


@pytest.mark.parametrize("items", [[], [1], [1, 2, 3]])
def test_bar_passes_items_through_and_prints_one_line(items: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert list(ProgressBar(items, desc="scan")) == items
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.startswith("scan")
    assert (f"100% {len(items)}/{len(items)}" in out) is bool(items)


def test_bar_on_a_terminal_redraws_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(ProgressBar, "INTERVAL", 0.0)
    with ProgressBar[int](total=4, desc="a") as bar:
        bar.update(2)
        bar.set_description("b")
        bar.update(2)
        bar.close()
    lines = stream.getvalue().split("\r\033[K")
    assert len(lines) == 4 and stream.getvalue().count("\n") == 1
    assert "━━━━━━────── 50% 2/4" in lines[1] and "<" in lines[1]
    assert lines[-1].startswith("b ━━━━━━━━━━━━ 100% 4/4") and "<" not in lines[-1]


@pytest.mark.parametrize("disable", [True, None])
def test_bar_is_off_on_request_or_with_the_log(
    disable: bool | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if disable is None:
        monkeypatch.setattr(LOGGER, "level", logging.ERROR)
        LOGGER._cache.clear()  # type: ignore[attr-defined]
    assert list(ProgressBar([1, 2], disable=disable)) == [1, 2]
    LOGGER._cache.clear()  # type: ignore[attr-defined]
    assert capsys.readouterr().out == ""


def test_bar_closes_when_the_loop_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    loop = iter(ProgressBar(range(3)))
    next(loop)
    loop.close()  # type: ignore[attr-defined]
    assert "0/3" in capsys.readouterr().out


def test_bar_without_a_total_counts() -> None:
    bar = ProgressBar[int](iter([1, 2]), disable=True)
    assert len(bar) == 0 and list(bar) == [1, 2]
    assert bar.text().startswith("2it")


def test_a_reader_that_has_gone_does_not_end_the_run() -> None:
    lines = [
        "import time",
        "from ultralytics.utils.log import LOGGER, ProgressBar",
        "for i in range(2000): LOGGER.info('x' * 100)",
        "list(ProgressBar(range(3)))",
        "open('done', 'w').close()",
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(chr(10).join(lines))} | head -1"
        root = str(Path(ultralytics.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": root}
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment)
        assert done.stderr == "" and Path(folder, "done").exists()


class Cell(io.StringIO):
    """The stream below a cell of a notebook."""


Cell.__module__ = "ipykernel.iostream"


@pytest.mark.parametrize(
    ("stream", "want"),
    [
        (io.StringIO(), "a message"),
        (Terminal(), "\r\033[Ka message"),
        (Cell(), f"\r{' ' * len('half way')}\ra message"),
    ],
)
def test_a_message_does_not_stand_behind_an_open_line(
    stream: io.StringIO, want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    handler = next(h for h in LOGGER.handlers if type(h).__module__ == "ultralytics.utils.log")
    assert isinstance(handler, ConsoleHandler)
    handler.draw("half way", final=False)
    LOGGER.info("a message")
    assert stream.getvalue().rpartition("half way")[2] == f"{want}\n"
    handler.draw("all done", final=True)
    assert stream.getvalue().endswith("all done\n")
