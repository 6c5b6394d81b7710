"""Manual pages as plain text, where neither man nor mandoc is there to show them.

It knows the part of mdoc(7) that the pages of this program use: a macro that is not in `MACROS` is an error.
"""

import re
import textwrap
from collections.abc import Iterator

INDENT = 5
NO_BREAK = "\N{NO-BREAK SPACE}"
ESCAPES = {"&": "", "-": "-", "(->": "->", "(aq": "'", "(dq": '"', "(em": "--", "e": "\\", " ": NO_BREAK}

# What stands before each argument of a macro, and what stands around all arguments of one.
WORDS = {
    **dict.fromkeys(("Ar", "Cm", "Em", "Ev", "Ic", "Li", "Lk", "No", "Nm", "Pa", "Sx", "Sy", "Va"), ""),
    "Fl": "-",
}
ENCLOSURES = {
    "Aq": ("<", ">"),
    "Bq": ("[", "]"),
    "Dq": ('"', '"'),
    "Op": ("[", "]"),
    "Pq": ("(", ")"),
    "Ql": ("'", "'"),
    "Sq": ("'", "'"),
}
SPACING = {"Ns", "Ta"}
STRUCTURE = {"Bd", "Bl", "D1", "Dd", "Dl", "Dt", "Ed", "El", "It", "Nd", "Os", "Pp", "Sh", "Ss", "Xr"}
MACROS = {*WORDS, *ENCLOSURES, *SPACING, *STRUCTURE}

CLOSING = {".", ",", ":", ";", ")", "]", "?", "!"}
OPENING = {"(", "["}


def render(source: str, width: int = 80) -> str:
    """The page as text of lines that are at most ``width`` long, but for what stands in it as it is."""
    return _Page(width).render([line for line in source.splitlines() if not line.startswith('.\\"')])


class _Page:
    def __init__(self, width: int) -> None:
        self._width = width
        self._name = ""
        self._synopsis = False

    def render(self, lines: list[str]) -> str:
        parts: list[str] = []
        body: list[str] = []
        for line in [*lines, ".Sh"]:
            macro, words = _split(line)
            if macro == "Dt":
                parts.append(f"{words[0]}({words[1]})")
            elif macro in ("Sh", "Ss"):
                parts += _indented(self._blocks(body, self._width - INDENT), INDENT)
                body = []
                if words:
                    self._synopsis = words == ["SYNOPSIS"]
                    parts += ["", "  " * (macro == "Ss") + self._inline(words)]
            elif macro not in ("Dd", "Os"):
                body.append(line)
        return "\n".join(parts).replace(NO_BREAK, " ") + "\n"

    def _blocks(self, lines: list[str], width: int) -> list[str]:
        """Paragraphs, lists and displays, with empty lines between them."""
        found: list[str] = []
        words: list[str] = []

        def end_paragraph() -> None:
            if text := _join(words):
                hang = (len(self._name) + 1) * self._synopsis
                found.extend(_filled(text, width, hang))
            words.clear()

        source = iter(lines)
        for line in source:
            macro, arguments = _split(line)
            if macro is None:
                words += _words_of_text(line)
            elif macro in ("Pp", "Bl", "Bd", "Dl", "D1"):
                end_paragraph()
                if found and found[-1] and not (macro == "Dl" and found[-1].startswith(" " * 4)):
                    found.append("")
                if macro == "Bl":
                    found += self._list(arguments, _until("El", "Bl", source), width)
                elif macro == "Bd":
                    found += [f"{'':4}{_unescaped(text)}" for text in _until("Ed", "Bd", source)]
                elif macro != "Pp":
                    found.append(f"{'':4}{self._inline(arguments)}")
            else:
                if macro == "Nm" and self._synopsis:
                    end_paragraph()
                words += self._marked(macro, arguments)
        end_paragraph()
        return found

    def _list(self, arguments: list[str], lines: list[str], width: int) -> list[str]:
        items = _items(lines)
        kind, compact = arguments[0], "-compact" in arguments
        if kind == "-column":
            return self._table(items, width)
        found: list[str] = []
        hang = 6
        if "-width" in arguments:
            hang = max(hang, len(arguments[arguments.index("-width") + 1]) + 2)
        if kind in ("-bullet", "-dash"):
            hang = 2
        for number, (head, body) in enumerate(items, start=1):
            mark = {"-bullet": "*", "-dash": "-", "-enum": f"{number}."}.get(kind) or self._inline(head)
            text = _indented(self._blocks(body, width - hang), hang)
            if len(mark) < hang and text and text[0]:
                text[0] = mark.ljust(hang) + text[0][hang:]
            else:
                text = [*_filled(mark, width, 2), *text]
            found += [*([""] if found and not compact else []), *text]
        return found

    def _table(self, items: list[tuple[list[str], list[str]]], width: int) -> list[str]:
        rows = []
        for head, body in items:
            cells = [cell.strip() for cell in self._inline(head).split("\t")]
            cells[-1] = " ".join([cells[-1], *self._blocks(body, 10_000)]).strip()
            rows.append(cells)
        columns = [max(len(cell) for cell in column) + 2 for column in list(zip(*rows, strict=True))[:-1]]
        room = sum(columns)
        found = []
        for row in rows:
            text = _filled(row[-1], width - room) or [""]
            first = "".join(cell.ljust(column) for cell, column in zip(row, columns, strict=False))
            found += [first + text[0], *_indented(text[1:], room)]
        return found

    def _inline(self, words: list[str]) -> str:
        """The text of a line whose macros may begin anywhere."""
        return _join(self._marked("No", words))

    def _marked(self, macro: str, words: list[str]) -> list[str]:
        """The words of a macro and its arguments; an argument that is a macro itself takes those behind it."""
        if macro not in MACROS:
            raise ValueError(f"the macro {macro} is not known")
        if macro == "Nm":
            self._name = self._name or " ".join(words[:1])
            words = words or [self._name]
        if macro == "Ta":
            return ["\t", *self._marked("No", words)]
        if macro == "Ns":
            return ["", *self._marked("No", words)]
        if macro == "Nd":
            return ["-", *self._marked("No", words)]
        if macro == "Xr":
            return [f"{words[0]}({words[1]})", *self._marked("No", words[2:])]
        if macro == "Ar" and not words:
            words = ["file", "..."]
        before, behind = ENCLOSURES.get(macro, ("", ""))
        if before:
            end = len(words)
            while end and words[end - 1] in CLOSING:
                end -= 1
            inside = _join(self._marked("No", words[:end]))
            if macro == "Op":  # not broken into lines
                inside = inside.replace(" ", NO_BREAK)
            return [f"{before}{inside}{behind}", *words[end:]]
        return self._words(WORDS.get(macro, ""), words)

    def _words(self, before: str, words: list[str]) -> list[str]:
        found: list[str] = []
        for number, word in enumerate(words):
            if word in MACROS:
                return found + self._marked(word, words[number + 1 :])
            found.append(word if word in CLOSING | OPENING | {"|"} else before + _unescaped(word))
        return found


def _split(line: str) -> tuple[str | None, list[str]]:
    """The macro of a line, None where it is text, and its arguments."""
    if not line.startswith("."):
        return None, []
    quoted = re.findall(r'"((?:[^"]|"")*)"|((?:\\ |\S)+)', line[1:])
    words = [first.replace(" ", NO_BREAK) if first else second for first, second in quoted]
    return words[0], words[1:]


def _words_of_text(line: str) -> list[str]:
    return [_unescaped(word) for word in re.findall(r"(?:\\ |\S)+", line)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\(..|.)", lambda found: ESCAPES[found[1]], text)


def _join(words: list[str]) -> str:
    """Words with blanks between them, but not where punctuation or an empty word (``Ns``) forbids it."""
    text = ""
    tight = True
    for word in words:
        if word == "":
            tight = True
            continue
        text += ("" if tight or word in CLOSING else " ") + word
        tight = word in OPENING
    return text


def _filled(text: str, width: int, hang: int = 0) -> list[str]:
    return textwrap.wrap(
        text, max(width, 20), subsequent_indent=" " * hang, break_on_hyphens=False, break_long_words=False
    )


def _indented(lines: list[str], by: int) -> list[str]:
    return [f"{'':{by}}{line}" if line else "" for line in lines]


def _until(end: str, begin: str, source: Iterator[str]) -> list[str]:
    """The lines up to the macro ``end`` that belongs to a ``begin`` that was read."""
    depth, found = 1, []
    for line in source:
        macro, _ = _split(line)
        depth += (macro == begin) - (macro == end)
        if not depth:
            break
        found.append(line)
    return found


def _items(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    """The items of a list: what stands behind each ``It``, and the lines below it."""
    found: list[tuple[list[str], list[str]]] = []
    depth = 0
    for line in lines:
        macro, words = _split(line)
        if macro == "It" and not depth:
            found.append((words, []))
        elif found:
            found[-1][1].append(line)
            depth += (macro == "Bl") - (macro == "El")
    return found
