"""The words and phrases that this project does not use, and the search for them.

Searched are string literals, docstrings, comments and identifiers of Python files, and the pages in Markdown.
`words.yaml` lists the patterns with the standard term for each.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import yaml

from tests.contract.measures import HERE, PACKAGE, Place, files, relative

SOURCES = (PACKAGE, "tests", "benchmarks", "train.py")
PAGES = ("docs/**/*.md", "*.md", "benchmarks/*.md", ".github/*.md")
GLOSSARY = "## Glossary"
"""Heading of the section of a page that lists the words that are not used; it is not searched for them."""

KEYS = ("words", "term", "in", "except_in", "finds", "leaves")
Row = Mapping[str, str | list[str]]
Scope = Literal["all", "prose", "names", "objects"]
Kind = Literal["prose", "name", "object"]
"""What a piece of source is: prose, a local name or attribute, or an object that others use (function, class, file)."""


@dataclass(frozen=True)
class Entry:
    """A word or phrase that is not used: pattern, standard term, what is searched for it, files where it is right."""

    pattern: re.Pattern[str]
    term: str
    scope: Scope = "all"
    except_in: tuple[str, ...] = ()

    def concerns(self, path: str, kind: Kind) -> bool:
        """Whether the entry holds for that kind of text in the file."""
        kinds = {"all": get_args(Kind), "prose": ("prose",), "names": ("name", "object"), "objects": ("object",)}
        return kind in kinds[self.scope] and not any(fnmatch(path, p) for p in self.except_in)

    def searched(self, text: Text) -> str:
        """What the pattern is applied to: prose as it is, a name as a sequence of words or, by `names`, as a whole."""
        return split_name(text.text) if text.kind != "prose" and self.scope == "all" else text.text


def entry(row: Row) -> Entry:
    """An entry from a row of `words.yaml`; ValueError for an unknown key or scope."""
    scopes: dict[object, Scope] = {name: name for name in get_args(Scope)}
    scope = scopes.get(row.get("in", "all"))
    if scope is None or not {"words", "term"} <= set(row) <= {*KEYS}:
        raise ValueError(f"words.yaml: {dict(row)}; keys are {', '.join(KEYS)}; in: {', '.join(get_args(Scope))}")
    flags = re.IGNORECASE if scope in {"all", "prose"} else re.RegexFlag(0)
    whole = rf"\A(?:{row['words']})\Z" if scope in {"names", "objects"} else rf"\b(?:{row['words']})"
    return Entry(re.compile(whole, flags), str(row["term"]), scope, tuple(row.get("except_in", ())))


def rows() -> list[Row]:
    """The rows of `words.yaml`."""
    return list(yaml.safe_load((HERE / "words.yaml").read_text(encoding="utf-8")))


@cache
def deny_list() -> tuple[Entry, ...]:
    """The entries of `words.yaml`."""
    return tuple(entry(row) for row in rows())


@cache
def _any_of(entries: tuple[Entry, ...], kind: Kind) -> re.Pattern[str]:
    """A pattern that finds something wherever one of the entries for that kind of text does: one quick search."""
    patterns = [e.pattern for e in entries if e.concerns("", kind)]
    parts = [f"(?i:{p.pattern})" if p.flags & re.IGNORECASE else p.pattern for p in patterns]
    return re.compile("|".join(parts) or r"(?!)")


class Text(NamedTuple):
    """A piece of prose or a name, and the line where it begins."""

    line: int
    text: str
    kind: Kind = "prose"


def _docstrings_and_strings(nodes: Sequence[ast.AST]) -> Iterator[Text]:
    """String literals, docstrings among them; the fields of an f-string become `{}`."""
    inside = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values]
            yield Text(node.lineno, "".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield Text(node.lineno, node.value)


def _comments(source: str) -> Iterator[Text]:
    """Comments; those on lines that follow each other are one text, so that a phrase may go over a line's end."""
    begun, last = 0, -1
    parts: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and parts:
            yield Text(begun, "\n".join(parts))
            parts = []
        begun = begun if parts else token.start[0]
        parts, last = [*parts, token.string.lstrip("#! ")], token.start[0]
    if parts:
        yield Text(begun, "\n".join(parts))


def _identifiers(module: ast.Module, nodes: Sequence[ast.AST]) -> Iterator[Text]:
    """Names where they are defined: functions, classes, constants, arguments, variables, attributes; each once."""
    top = {id(n) for stmt in module.body if isinstance(stmt, ast.Assign | ast.AnnAssign) for n in ast.walk(stmt)}
    seen = set()
    for node in nodes:
        name, kind = _identifier(node)
        if name and name not in seen:
            seen.add(name)
            yield Text(getattr(node, "lineno", 0), name, "object" if id(node) in top else kind)


def _identifier(node: ast.AST) -> tuple[str, Kind]:
    """The name that a node defines, or an empty string."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name, "object"
        case ast.arg():
            return node.arg, "name"
        case ast.Name(ctx=ast.Store()):
            return node.id, "name"
        case ast.Attribute(ctx=ast.Store()):
            return node.attr, "name"
        case _:
            return "", "name"


def split_name(name: str) -> str:
    """`_best_shareOf` → `best share Of`: a name as the sequence of its words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", name).strip()


def texts_of_python(source: str, path: str) -> list[Text]:
    """Prose and names of a Python file, its own name included."""
    module = ast.parse(source, path)
    nodes = list(ast.walk(module))
    stem = Path(path).stem
    named = [Text(1, stem, "object")] if stem != "__init__" else []
    return [*named, *_docstrings_and_strings(nodes), *_comments(source), *_identifiers(module, nodes)]


def texts_of_page(source: str) -> list[Text]:
    """Prose of a Markdown page without its glossary; code blocks are searched like the rest."""
    head, _, tail = source.partition(GLOSSARY)
    kept, rest = [Text(1, head)], re.search(r"(?m)^## ", tail)
    if rest:
        kept.append(Text(1 + source[: len(head) + len(GLOSSARY) + rest.start()].count("\n"), tail[rest.start() :]))
    return kept


def hits(texts: Iterable[Text], path: str, entries: Sequence[Entry] | None = None) -> list[Place]:
    """Uses of denied words in texts of the file at `path`."""
    rules = deny_list() if entries is None else tuple(entries)
    quick = {kind: _any_of(rules, kind) for kind in get_args(Kind)}
    return [place for text in texts if _may_hit(text, quick[text.kind]) for place in _hits(text, path, rules)]


def _may_hit(text: Text, quick: re.Pattern[str]) -> bool:
    """A quick search for all rules at once; most texts end here."""
    return bool(quick.search(text.text) or (text.kind != "prose" and quick.search(split_name(text.text))))


def _hits(text: Text, path: str, rules: Iterable[Entry]) -> Iterator[Place]:
    for rule in rules:
        if rule.concerns(path, text.kind):
            searched = rule.searched(text)
            for match in rule.pattern.finditer(searched):
                line = text.line + searched[: match.start()].count("\n")
                what = " ".join(match.group().split()) if text.kind == "prose" else text.text
                yield Place(path, line, f"{what!r}: {rule.term}")


def pages(root: Path) -> list[Path]:
    """Markdown pages in English."""
    return sorted({p for pattern in PAGES for p in root.glob(pattern) if ".zh-" not in p.name})


def denied_words(root: Path) -> list[Place]:
    """Uses of denied words in the sources, tests, benchmarks and pages."""
    found = []
    for path in files(root, *SOURCES):
        where = relative(root, path)
        found += hits(texts_of_python(path.read_text(encoding="utf-8"), where), where)
    for path in pages(root):
        found += hits(texts_of_page(path.read_text(encoding="utf-8")), relative(root, path))
    return sorted(found)
