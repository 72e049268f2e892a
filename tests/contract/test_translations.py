"""The pages in Chinese follow those in English: sections, code blocks, tables, links, and the names written as code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from tests.contract.source import ROOT

TREE = ROOT.parent
DOCS = TREE / "docs"
ENGLISH = TREE / "README.md"
CHINESE = TREE / "README.zh-CN.md"
GENERATED = "blocks.md"
"""The table of blocks is written from the registry; its page in Chinese explains the columns and points to it."""
NAMES = sorted(path.name for path in (DOCS / "zh-CN").glob("*.md"))
PAIRS = {"README.md": (ENGLISH, CHINESE)} | {n: (DOCS / n, DOCS / "zh-CN" / n) for n in NAMES if n != GENERATED}


@dataclass
class Section:
    """What stands below a heading, without the wording."""

    level: int
    title: str
    codes: list[list[str]] = field(default_factory=list)
    tables: list[list[int]] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Inline code of the prose and tables."""
        return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", "\n".join(self.prose))}

    @property
    def sentences(self) -> str:
        """Prose without tables, which may hold names and figures alone."""
        return "".join(line for line in self.prose if not line.startswith("|")).strip()

    @property
    def text(self) -> str:
        """Prose and code as one string."""
        return " ".join(" ".join([self.title, *self.prose, *(line for code in self.codes for line in code)]).split())


def uncommented(line: str) -> str:
    """A line of code without its comment."""
    return re.sub(r"(?:^|\s+)#.*", "", line).rstrip()


def code_at(lines: list[str], at: int) -> int:
    """The line behind the code block that begins at a line, fenced or indented; the line itself where none does."""
    end = at
    if lines[at].startswith("```"):
        return lines.index("```", at + 1) + 1
    while end < len(lines) and lines[end].startswith("    ") and not (end == at and lines[at - 1].strip()):
        end += 1
    return end


def sections(text: str) -> list[Section]:
    """The sections of a page in Markdown."""
    lines, found, at = text.splitlines(), [Section(0, "")], 0
    while at < len(lines):
        line, end = lines[at], code_at(lines, at)
        if end > at:
            found[-1].codes.append([uncommented(code) for code in lines[at:end]])
        elif heading := re.match(r"(#+) (.*)", line):
            found.append(Section(len(heading[1]), heading[2]))
        else:
            add_prose(found[-1], line, after=lines[at - 1] if at else "")
        at = max(end, at + 1)
    return found


def add_prose(section: Section, line: str, after: str) -> None:
    """Add a line of prose; a row of a table also adds its number of cells to the table."""
    section.prose.append(line)
    if line.startswith("|"):
        if not after.startswith("|"):
            section.tables.append([])
        section.tables[-1].append(len(re.findall(r"(?<!\\)\|", line)) - 1)


def links(path: Path) -> set[str]:
    """Files that a page links to, without folder and anchor: pages in both languages have the same names."""
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    return {PurePosixPath(target.split("#")[0]).name for target in targets} - {ENGLISH.name, CHINESE.name}


def differences(english: str, chinese: str) -> list[str]:
    """Where the page in Chinese departs from the one in English; empty when it follows."""
    ours, theirs = sections(english), sections(chinese)
    if [s.level for s in ours] != [s.level for s in theirs]:
        return [f"headings: {[s.title for s in ours]} and {[s.title for s in theirs]}"]
    found = []
    for one, other in zip(ours, theirs, strict=True):
        place = f"{one.title} / {other.title}"
        found += [f"{place}: code {a} and {b}" for a, b in zip(one.codes, other.codes, strict=False) if a != b]
        if len(one.codes) != len(other.codes) or one.tables != other.tables:
            found.append(f"{place}: number of code blocks, or rows and cells of a table")
        missing = sorted(one.names - other.names) + sorted(n for n in other.names if n not in one.text)
        found += [f"{place}: name {name}" for name in missing]
        if one.sentences and not re.search(r"[\u4e00-\u9fff]", other.sentences):
            found.append(f"{place}: not translated")
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_a_page_in_chinese_follows_the_english_one(name: str) -> None:
    english, chinese = PAIRS[name]
    assert differences(english.read_text(encoding="utf-8"), chinese.read_text(encoding="utf-8")) == []
    assert links(english) == links(chinese)


def test_the_readme_in_chinese_links_to_pages_in_chinese() -> None:
    pages = re.findall(r"\]\((docs/[^)]+\.md)\)", CHINESE.read_text(encoding="utf-8"))
    assert pages and [page for page in pages if not page.startswith("docs/zh-CN/") or not (TREE / page).exists()] == []


def test_every_page_has_one_in_chinese() -> None:
    assert sorted(path.name for path in DOCS.glob("*.md")) == NAMES


def test_the_page_of_blocks_explains_each_column() -> None:
    table = re.search(r"(?m)^\|.*\|$", (DOCS / GENERATED).read_text(encoding="utf-8"))
    page = (DOCS / "zh-CN" / GENERATED).read_text(encoding="utf-8")
    assert table and [cell.strip() for cell in table[0].strip("|").split("|") if cell.strip() not in page] == []
    assert "](../blocks.md)" in page


PAGE = "# Head\n\nUse `a`.\n\n```bash\nrun  # now\n```\n\n## Next\n\n| x | y |\n|---|---|\n| `b` | 1 |\n"
COPY = "# 标题\n\n用 `a`。\n\n```bash\nrun  # 现在\n```\n\n## 下一节\n\n| 甲 | 乙 |\n|---|---|\n| `b` | 1 |\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("## 下", "### 下"),
        ("run", "walk"),
        ("```bash\nrun  # 现在\n```\n", ""),
        ("| `b` | 1 |\n", ""),
        ("`a`", "它"),
        ("`b`", "`b` `c`"),
        ("用 `a`。", "Use `a`."),
    ],
)
def test_what_departs_is_found(old: str, new: str) -> None:
    assert differences(PAGE, COPY) == []
    assert differences(PAGE, COPY.replace(old, new)) != []


def test_indented_code_is_code() -> None:
    assert sections("# A\n\n    yolo x  # y\n\n- item\n    more\n")[1].codes == [["    yolo x"]]
