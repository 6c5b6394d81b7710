"""Mutants of tars: what a writer at fault, or a mean one, might make of a sound one. The checksums are right."""

import random
import re
from collections.abc import Callable

from ingest_cli.bundle.header import BLOCK, is_header

# Where the numbers of a header lie.
FIELDS = {
    "mode": (100, 108),
    "uid": (108, 116),
    "gid": (116, 124),
    "size": (124, 136),
    "mtime": (136, 148),
    "devmajor": (329, 337),
    "devminor": (337, 345),
}
TYPES = b"0\x0051234567DLKxXgSVMNAEZ"
MAGICS = [
    b"ustar\x0000",
    b"ustar  \0",
    bytes(8),
    b"ustar\0\0\0",
    b"ustar 00",
    b"ustar\x0001",
    b"junkjunk",
    b"ustar00\0",
]
NAMES = [
    "data/a",
    "data/b",
    "./data//c",
    "data/d/",
    "data/e/.",
    "/data/f",
    "../g",
    "data/h\0i",
    "data/\xe9",
    "",
    ".",
    "data",
]
NUMBERS: list[Callable[[int, int], bytes]] = [
    lambda value, width: b"%0*o\0" % (width - 1, value),
    lambda value, width: b"%0*o" % (width, value),
    lambda value, width: b"%0*o \0" % (width - 2, value),
    lambda value, width: b"%*o " % (width - 1, value),
    lambda value, width: b"%o\0" % value,
    lambda value, width: b"%o " % value,
    lambda value, width: b"  %o\0junk" % value,
    lambda value, width: b"%o junk" % value,
    lambda value, width: b"%ojunk" % value,
    lambda value, width: b"%o 7\0" % value,
    lambda value, width: b"\0%o\0" % value,
    lambda value, width: b"\t%o\0" % value,
    lambda value, width: b"%o\t\0" % value,
    lambda value, width: b"+%o\0" % value,
    lambda value, width: b"-%o\0" % value,
    lambda value, width: b"0o%o\0" % value,
    lambda value, width: b"1_%o\0" % value,
    lambda value, width: b"0x%x\0" % value,
    lambda value, width: b"%d9\0" % value,
    lambda value, width: "".join(chr(0x660 + int(digit)) for digit in f"{value:o}").encode()[:width],
    lambda value, width: b" " * width,
    lambda value, width: bytes(width),
    lambda value, width: b" \0" + b" " * width,
    lambda value, width: b"\x80" + value.to_bytes(width - 1, "big"),
    lambda value, width: b"\xff" + value.to_bytes(width - 1, "big"),
    lambda value, width: (256**width - 1 - value).to_bytes(width, "big"),
    lambda value, width: b"\x81" + value.to_bytes(width - 1, "big"),
    lambda value, width: b"\xc0" + value.to_bytes(width - 1, "big"),
    lambda value, width: b"\x80\x01" + value.to_bytes(width - 2, "big"),
    lambda value, width: b"7" * width,
]
TIMES = [
    "",
    "0",
    "-1",
    "-1.5",
    "1e3",
    "nan",
    "soon",
    "1480428545.123456789",
    "+5",
    " 5",
    "5.",
    ".5",
    "9" * 30,
    "\u0665",
]
SIZES = ["", "0", "1", "5", "10", "512", "600", "+5", "-5", " 5", "5 ", "010", "0x5", "1_0", "\u0665", "9" * 30, "5.0"]
KEYS = [
    "path",
    "path",
    "size",
    "size",
    "mtime",
    "linkpath",
    "uid",
    "uname",
    "comment",
    "hdrcharset",
    "charset",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.map",
    "SCHILY.realsize",
    "SCHILY.filetype",
    "SCHILY.dev",
    "SUN.holesdata",
    "LIBARCHIVE.creationtime",
    "Path",
]


class Mutation:
    """One mutant in the making. ``blocks`` are those of the tar."""

    def __init__(self, raw: bytes, choice: random.Random) -> None:
        self.blocks = [bytearray(raw[start : start + BLOCK]) for start in range(0, len(raw), BLOCK)]
        self._choice = choice

    def mutated(self) -> bytes:
        """The mutant."""
        steps = [
            self._number,
            self._number,
            self._type,
            self._name,
            self._magic,
            self._extension,
            self._extension,
            self._extension,
            self._splice,
            self._swap,
            self._body,
            self._byte,
            self._checksum,
            self._end,
        ]
        for _ in range(self._choice.choice((1, 1, 1, 2, 2, 3))):
            self._choice.choice(steps)()
        raw = b"".join(self.blocks)
        if self._choice.random() < 0.03:
            raw = raw[: self._choice.randrange(len(raw))]
        return raw

    def _headers(self) -> list[int]:
        return [number for number, block in enumerate(self.blocks) if is_header(bytes(block))]

    def _header(self) -> int:
        return self._choice.choice(self._headers() or [0])

    def _number(self) -> None:
        number = self._header()
        name = self._choice.choice(["size", "size", "size", "mtime", *FIELDS])
        start, end = FIELDS[name]
        now = bytes(self.blocks[number][start:end]).strip(b"\0 ")
        is_number = re.fullmatch(rb"[0-7]+", now) is not None
        value = int(now, 8) if is_number and self._choice.random() < 0.6 else self._some_size()
        field = self._choice.choice(NUMBERS)(value, end - start)
        self.blocks[number][start:end] = field[: end - start].ljust(end - start, b"\0")
        self._sign(number)

    def _some_size(self) -> int:
        return self._choice.choice((0, 1, 5, 7, 8, 64, 511, 512, 513, 1024))

    def _type(self) -> None:
        number = self._header()
        self.blocks[number][156] = self._choice.choice(TYPES)
        if self._choice.random() < 0.3:
            self.blocks[number][124:136] = b"%011o\0" % self._some_size()
        self._sign(number)

    def _name(self) -> None:
        number = self._header()
        block = self.blocks[number]
        name = self._choice.choice(NAMES).encode()
        if self._choice.random() < 0.5:
            name = bytes(block[:100]).rstrip(b"\0") + self._choice.choice((b"/", b"//", b"/.", b"x", b"\0x"))
        block[:100] = name[:100].ljust(100, b"\0")
        self._sign(number)

    def _magic(self) -> None:
        number = self._header()
        self.blocks[number][257:265] = self._choice.choice(MAGICS)
        prefix = self._choice.choice((b"", b"", b"data", b"data/", b"/", b"x" * 155, b"\0x", b".", b"14235671234 "))
        self.blocks[number][345:500] = prefix.ljust(155, b"\0")
        self._sign(number)

    def _extension(self) -> None:
        kind = self._choice.choice("xxxxXgLLK")
        if kind in "LK":
            body = self._choice.choice(NAMES).encode() + self._choice.choice(
                (b"\0", b"\0", b"", b"\0\0", b"/\0", b"\0x")
            )
        else:
            body = b"".join(self._record() for _ in range(self._choice.choice((0, 1, 1, 1, 2, 3))))
            body += self._choice.choice((b"", b"", b"", b"", b"", b"\0", b"\0\0x", b"7", b"\n", b"9 path=x\n"))
        header = bytearray(BLOCK)
        header[:10] = b"extension\0"
        header[100:136] = b"0000644\00000000\00000000\0%011o\0" % len(body)
        header[136:148] = b"00000000000\0"
        header[156:157] = kind.encode()
        header[257:265] = self._choice.choice(MAGICS[:2])
        padding = b"\0" if self._choice.random() < 0.95 else b"1"
        body = body.ljust(-(-len(body) // BLOCK) * BLOCK, padding)
        at = self._header()
        self.blocks[at:at] = [header, *(bytearray(body[start : start + BLOCK]) for start in range(0, len(body), BLOCK))]
        self._sign(at)

    def _record(self) -> bytes:
        key = self._choice.choice(KEYS)
        value = {
            "path": self._choice.choice(NAMES),
            "size": self._choice.choice(SIZES),
            "mtime": self._choice.choice(TIMES),
            "hdrcharset": self._choice.choice(("BINARY", "ISO-IR 10646 2000 UTF-8", "latin-1")),
        }.get(key, self._choice.choice(["", "x", "1", "0", *SIZES, *NAMES]))
        rest = f" {key}={value}\n".encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        if self._choice.random() < 0.1:
            length += self._choice.choice((-1, 1, 2, 10, 1000))
        form = self._choice.choice((b"%d", b"%d", b"%d", b"%d", b"%d", b"%d", b"%d", b"0%d", b" %d", b"+%d"))
        return form % length + rest

    def _splice(self) -> None:
        start, at = self._choice.randrange(len(self.blocks)), self._choice.randrange(len(self.blocks))
        piece = self.blocks[start : start + self._choice.choice((1, 1, 2, 3))]
        step = self._choice.randrange(4)
        if step == 0:
            del self.blocks[at : at + len(piece)]
        elif step == 1:
            self.blocks[at:at] = [bytearray(block) for block in piece]
        elif step == 2:
            self.blocks[at:at] = [bytearray(BLOCK)]
        else:
            self.blocks[at : at + len(piece)] = [bytearray(block) for block in piece]

    def _swap(self) -> None:
        one, other = self._header(), self._header()
        self.blocks[one], self.blocks[other] = self.blocks[other], self.blocks[one]

    def _body(self) -> None:
        """Of an extended header, if there is one: a byte of its records or of its name."""
        extended = [number for number in self._headers() if self.blocks[number][156] in b"xXgLK"]
        at = self._choice.choice(extended or [0]) + 1
        if extended and at < len(self.blocks):
            length = len(bytes(self.blocks[at]).rstrip(b"\0"))
            self.blocks[at][self._choice.randrange(length + 2) % BLOCK] = self._choice.choice(b"\0\n /=0129.x\xff")

    def _byte(self) -> None:
        number = self._header()
        for _ in range(self._choice.choice((1, 1, 2, 4))):
            self.blocks[number][self._choice.randrange(BLOCK)] = self._choice.choice((0, 0x20, 0x2F, 0x30, 0x80, 0xFF))
        self._sign(number)

    def _checksum(self) -> None:
        number = self._header()
        block = self.blocks[number]
        if self._choice.random() < 0.5:
            block[265] = 0xE9  # of the owner's name
        block[148:156] = b" " * 8
        value = sum(block) - (256 * sum(byte > 127 for byte in block) if self._choice.random() < 0.5 else 0)
        block[148:156] = self._choice.choice(NUMBERS)(max(0, value), 8)[:8].ljust(8, b"\0")

    def _end(self) -> None:
        while len(self.blocks) > 1 and not any(self.blocks[-1]):
            self.blocks.pop()
        self.blocks += [bytearray(BLOCK) for _ in range(self._choice.choice((0, 1, 2, 2, 3)))]
        if self._choice.random() < 0.3:
            self.blocks.append(bytearray(b"junk" * 128))

    def _sign(self, number: int) -> None:
        block = self.blocks[number]
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)


def mutant(raw: bytes, seed: int) -> bytes:
    """A mutant of the tar, the same for the same seed."""
    return Mutation(raw, random.Random(seed)).mutated()
