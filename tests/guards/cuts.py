"""The table of guards, their markers in the sources, and how each is taken out. It must not run anything.

A marker is a comment line of its own, `// guard: F2-synced` or `# guard: F2-synced`, with the ids of all guards that lie there.
What it marks begins below it, comments left out. In Rust that is

    a statement, an item or a match arm          to its `;`, its `,` or the end of its block
    a field, an element or an argument           to its `,` or the end of what it stands in
    an operand, from the `&&`, `||` or `+` on    to the next operator of the kind

and in other files the next line. The table (guards.toml) says what happens to it, by one operation:

    remove      it goes; so it is where the table says nothing
    error       a statement's error is ignored: of `...?;` is left `let _ = ...;`
    condition   what stands there is the condition of the first if, while, match or arm with a condition
    value       the right side of a let, const, assignment, field, select! arm or (KEY, value), else the whole; of a line what
                follows its `=`, or its last word
    body        what an arm leads to, else what is in the block
    literal     the last string or number of it
    replace     a table of one text, which is there once, and what takes its place: for names that aren't ours
    insert      what is put before it

In all but the last two, `<it>` is what was there before.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Where markers can be: what the product is built from. Images are not built anew for a guard.
SOURCES = ("src", "nix")
MARKER = re.compile(r"^[ \t]*(?://|#) guard: (.+)\n", re.MULTILINE)


class Wrong(Exception):
    """The table and the sources don't fit."""


class Change(NamedTuple):
    """A part of a file, and what takes its place."""

    file: Path
    start: int
    end: int
    new: str

    def meets(self, other):
        return self.file == other.file and self.start <= other.end and other.start <= self.end


@dataclass
class Guard:
    id: str
    guard: str
    stories: list
    # (marker, operation, argument): the guard's own first, then those of `also`.
    cuts: list

    @property
    def row(self):
        return self.id.partition("-")[0]


def table(text):
    return [_guard(entry) for entry in tomllib.loads(text)["guard"]]


def _guard(entry):
    also = entry.pop("also", [])
    cuts = [_cut(part) for part in (entry, *also)]
    try:
        guard = Guard(entry.pop("id"), entry.pop("guard"), entry.pop("stories"), cuts)
        for part in also:
            part.pop("id")
    except KeyError as missing:
        raise Wrong(f"guards.toml: {entry} has no {missing}") from None
    if left := [key for part in (entry, *also) for key in part]:
        raise Wrong(f"guards.toml: {guard.id}: nothing is called {left[0]}")
    return guard


def _cut(part):
    what = part.pop("take_out", "remove")
    if isinstance(what, str):
        what = {what: None}
    if len(what) != 1:
        raise Wrong(f"guards.toml: {part.get('id')}: take_out is one operation")
    ((operation, argument),) = what.items()
    return part.get("id"), operation, argument


def markers(tree):
    """{id: (file, where what is marked begins)}."""
    found = {}
    for file in sorted(file for place in SOURCES for file in (tree / place).rglob("*") if file.is_file()):
        text = file.read_bytes().decode(errors="replace")
        for marker in MARKER.finditer(text):
            for one in marker[1].split():
                if one in found:
                    raise Wrong(f"{file}: {one} is marked in {found[one][0]} too")
                found[one] = file, marker.end()
    return found


def changes(guard, tree, marked):
    """What taking it out comes to."""
    found = []
    for marker, operation, argument in guard.cuts:
        if marker not in marked:
            raise Wrong(f"{marker} is marked nowhere")
        file, at = marked[marker]
        try:
            found.append(Change(file, *change(file.read_text(), at, file.suffix == ".rs", operation, argument)))
        except Wrong as why:
            raise Wrong(f"{file.relative_to(tree)}: {marker}: {why}") from None
    return found


def apply(found):
    """Makes changes of which no two meet."""
    for one in sorted(found, key=lambda one: (one.file, -one.start)):
        text = one.file.read_text()
        one.file.write_text(text[: one.start] + one.new + text[one.end :])


def change(text, at, rust, operation, argument):
    """(start, end, what takes that place)."""
    part = (Rust if rust else Line)(text, at)
    start, end = part.span()
    whole = text[start:end]
    match operation:
        case "replace":
            ((old, new),) = argument.items()
            if whole.count(old) != 1:
                raise Wrong(f"what is marked has {whole.count(old)} times {old!r}, and must have it once")
            start += whole.index(old)
            return start, start + len(old), new
        case "insert":
            return start, start, argument + " "
        case "remove":
            return start, end, ""
        case "error" if whole.endswith("?;"):
            return start, end, f"let _ = {whole[:-2]};"
        case "condition" | "value" | "body" | "literal" if found := getattr(part, operation, lambda: None)():
            start, end = found
            return start, end, argument.replace("<it>", text[start:end])
    raise Wrong(f"what is marked has no {operation}: {whole[:80]!r}")


class Line:
    """A line of a file that is not Rust."""

    def __init__(self, text, at):
        self.found = re.compile(r"(?:[ \t]*(?:#.*)?\n)*[ \t]*(.*)").match(text, at)

    def span(self):
        return self.found.span(1)

    def value(self):
        line = re.search(r"^\w+=(.*)|(\S+?);?$", self.found[1])
        return tuple(self.found.start(1) + at for at in line.span(line.lastindex)) if line else None


class Token(NamedTuple):
    text: str
    start: int
    end: int
    # Of a bracket, that outside it.
    depth: int
    is_literal: bool


TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<literal>b?r(?P<hashes>\#*)".*?"(?P=hashes)|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\x\w\w|\\u\{\w+\}|\\.|[^\\'])'|\d\w*(?:\.\d\w*)?)
    |'?\w+
    |=>|->|::|\.\.=?|&&|\|\||[-+*/%^&|<>=!]=|.""",
    re.DOTALL | re.VERBOSE,
)
# What comes before the word that tells what an item is.
BEFORE = {"pub", "async", "unsafe", "extern"}
STATEMENTS = {"let", "const", "static", "type", "use", "return"}
BLOCKS = {"fn", "impl", "mod", "struct", "enum", "trait", "if", "while", "for", "loop", "match", "{"}
OPERATORS = {"&&", "||", "+"}


class Rust:
    """What begins below a marker, as its tokens. Commas between `<` and `>` are told from others in items and statements only."""

    def __init__(self, text, at):
        self.tokens = self._read(text, at)
        if not self.tokens:
            raise Wrong("nothing is marked")

    def _read(self, text, at):
        tokens, depth = [], 0
        for found in TOKEN.finditer(text, at):
            if found["space"]:
                continue
            word = found[0]
            if word in ")]}":
                depth -= 1
            if depth < 0 or depth == 0 and tokens and self._is_over(tokens, word):
                break
            tokens.append(Token(word, *found.span(), depth, bool(found["literal"])))
            if word in "([{":
                depth += 1
            elif depth == 0 and (word == ";" or word == "," and (self._kind(tokens) == "other" or tokens[-2].text == "}")):
                break
        return tokens

    def _is_over(self, tokens, word):
        """Whether it ended before this word."""
        first, last = tokens[0].text, tokens[-1]
        if first in OPERATORS:
            return word in (first, ";", ",")
        if first == "#":
            return last.text == "]" and last.depth == 0
        at_block = last.text == "}" and last.depth == 0
        return at_block and self._kind(tokens) != "statement" and word not in ("else", ".", "?", "=>", ";", ",")

    @staticmethod
    def _kind(tokens):
        words = [token.text for token in tokens if token.depth == 0 and token.text not in ("(", ")") and token.text not in BEFORE]
        if words[:2] == ["const", "fn"] or words[:1] and words[0] in BLOCKS:
            return "block"
        return "statement" if words[:1] and words[0] in STATEMENTS else "other"

    def _first(self, words, depth=None, after=0):
        """The place of the first of these words."""
        fits = (n for n, token in enumerate(self.tokens) if n >= after and token.text in words and depth in (None, token.depth))
        return next(fits, None)

    def _between(self, first, end):
        if first >= end:
            raise Wrong("there is nothing to change")
        return self.tokens[first].start, self.tokens[end - 1].end

    def _end(self):
        """Without the comma or semicolon."""
        return len(self.tokens) - (self.tokens[-1].text in (",", ";") and self.tokens[-1].depth == 0)

    def span(self):
        return self._between(0, len(self.tokens))

    def condition(self):
        keyword = self._first(("if", "while", "match"))
        if keyword is not None and (end := self._first(("{", "=>"), self.tokens[keyword].depth, keyword)):
            return self._between(keyword + 1, end)

    def value(self):
        end = self._first(("=>",), 0) or self._end()
        before = self._first(("=",), 0)
        if before is None:
            before = self._first((":",), 0)
        if before is None and self.tokens[0].text == "(" and self.tokens[end - 1].text == ")":
            before, end = self._first((",",), 1), end - 1
        return self._between(0 if before is None else before + 1, end)

    def body(self):
        if (arrow := self._first(("=>",), 0)) is not None:
            return self._between(arrow + 1, self._end())
        if (block := self._first(("{",), 0)) is not None:
            # What is in a block may be nothing.
            return self.tokens[block].end, self.tokens[self._first(("}",), 0, block)].start

    def literal(self):
        found = [token for token in self.tokens if token.is_literal]
        return (found[-1].start, found[-1].end) if found else None
