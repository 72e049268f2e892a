"""What comes from a file is shown without what would steer a terminal, in lines that can be read."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from ultralytics.utils.errors import MAX_LINE, ConfigError, printable
from ultralytics.utils.log import write_text
from ultralytics.utils.tables import comma_separated, csv_of


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", ""),
        ("caf\u00e9 \u732b \u200d", "caf\u00e9 \u732b \u200d"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("a\r\n\tb\u2028c", "a b c"),
        ("\x00\x08\x7f\x9b2Ja\u202eb", "2Jab"),
        ("\ud800", "\\ud800"),
        (5, "5"),
    ],
)
def test_printable(text: object, want: str) -> None:
    assert printable(text) == want


def test_a_message_has_lines_that_can_be_read() -> None:
    text = str(ConfigError("x" * 134_000, "use \x1b[2Jy"))
    first, second = text.splitlines()
    assert len(first) < MAX_LINE and "134,000 characters" in first and second == "use y"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_alone() -> None:
    screen = Screen()
    write_text(screen, "\x1b[1mbold\x1b[0m \x1b[2J\x1b]0;t\x07\rname\n", lead="\r\x1b[K")
    assert screen.getvalue() == "\r\x1b[K\x1b[1mbold\x1b[0m [2J]0;tname\n"


def test_cells_are_not_formulas() -> None:
    assert comma_separated([("=HYPERLINK(1)", "-0.5", "@x", "-")]) == ["'=HYPERLINK(1),-0.5,'@x,-"]
    table = pd.DataFrame({"class": ["=1+1", "cat"], "+x": [-1.5, 2.0]})
    assert csv_of(table) == "class,'+x\n'=1+1,-1.5\ncat,2.0\n"
    assert list(table.columns) == ["class", "+x"]
