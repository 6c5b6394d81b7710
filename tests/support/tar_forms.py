"""Tars written by hand: forms that old writers and odd ones use, and some of which readers make different things."""

PLACES = {
    **{"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136},
    **{"uname": 265, "devmajor": 329, "devminor": 337, "prefix": 345},
}
END = bytes(1024)
GNU = b"ustar  \0"
V7 = bytes(8)


def header(
    name: bytes, length: int = 0, kind: bytes = b"0", /, *, magic: bytes = b"ustar\x0000", **fields: bytes
) -> bytes:
    """A header by hand; ``fields`` are what it holds in place of a plain number or an empty prefix."""
    filled = {"mode": b"0000644\0", "uid": b"0001750\0", "gid": b"0001750\0", "size": b"%011o\0" % length}
    filled |= {"mtime": b"13017306001\0", "devmajor": bytes(8), "devminor": bytes(8), "prefix": b"", **fields}
    block = bytearray(512)
    block[: len(name)] = name
    block[156:157], block[257 : 257 + len(magic)] = kind, magic
    for field, content in filled.items():
        block[PLACES[field] : PLACES[field] + len(content)] = content
    return signed(bytes(block))


def signed(block: bytes, form: bytes = b"%06o\0 ", difference: int = 0) -> bytes:
    """A header with its checksum in this form, or one that differs from it."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + form % (sum(blank) + difference) + blank[156:]


def member(name: bytes, content: bytes = b"alpha", kind: bytes = b"0", /, **fields: bytes) -> bytes:
    """A header by hand, and the blocks of its content."""
    return header(name, len(content), kind, **fields) + padded(content)


def pax(*records: tuple[str, str | bytes], kind: bytes = b"x") -> bytes:
    """An extended header with these keys and values."""
    return member(b"extended", b"".join(record(key, value) for key, value in records), kind)


def record(key: str, value: str | bytes) -> bytes:
    """A record of an extended header."""
    rest = f" {key}=".encode() + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def long_name(name: bytes) -> bytes:
    """GNU's header for a long name."""
    return member(b"././@LongLink", name + b"\0", b"L", magic=b"ustar  \0")


def padded(content: bytes) -> bytes:
    """The content, filled up to whole blocks."""
    return content + bytes(-len(content) % 512)


B = member(b"data/b", b"beta")
FILES = {"data/a": b"alpha", "data/b": b"beta"}
# Of each, all readers read `FILES`.
AGREED = {
    "V7": member(b"data/a", magic=V7) + member(b"data/b", b"beta", b"\0", magic=V7),
    "V7, where a folder is a name that ends in a slash": header(b"data/", 0, b"\0", magic=V7) + member(b"data/a") + B,
    "GNU": member(b"data/a", magic=GNU) + member(b"data/b", b"beta", magic=GNU),
    "a contiguous file": member(b"data/a", b"alpha", b"7") + B,
    "a prefix": member(b"a", prefix=b"data") + member(b"b", b"beta", prefix=b"data/"),
    "star, with times behind the prefix": member(b"data/a")
    + signed(header(b"b", 4, prefix=b"data".ljust(131, b"\0") + b"13017306001 13017306001 ")[:508] + b"tar\0")
    + padded(b"beta"),
    "numbers in base 256": member(
        b"data/a",
        size=b"\x80" + (5).to_bytes(11, "big"),
        mode=b"\x80" + (0o644).to_bytes(7, "big"),
        uid=b"\x80" + (1 << 40).to_bytes(7, "big"),
        gid=b"\xff" * 8,
        mtime=b"\xff" * 12,
        devmajor=b"\x80" + bytes(7),
        devminor=b"\x80" + bytes(7),
    )
    + B,
    "blanks before numbers": member(b"data/a", size=b"          5\0", uid=b"   750 \0") + B,
    "numbers that fill their fields": member(b"data/a", size=b"000000000005", uid=b"77777777") + B,
    "numbers that end early": member(b"data/a", size=b"5".ljust(12, b"\0"), mode=b"644".ljust(8, b"\0")) + B,
    "something behind the NUL of a number": member(b"data/a")
    + member(b"data/b", b"beta", size=b"4\0junk", uid=b"5\0 junk"),
    "a time before 1970 with a sign": member(b"data/a") + member(b"data/b", b"beta", mtime=b"-0000000017\0"),
    "a time before 1970 as Perl writes it": member(b"data/a") + member(b"data/b", b"beta", mtime=b"177777777777"),
    "no time": member(b"data/a", mtime=bytes(12)) + B,
    "a blank time": member(b"data/a", mtime=b" " * 12) + B,
    "a time that no clock shows": member(b"data/a", mtime=b"\x80" + (1 << 62).to_bytes(11, "big")) + B,
    "a checksum of signed bytes": signed(header(b"data/a", 5, uname=b"\xe9t\xe9"), difference=-512)
    + padded(b"alpha")
    + B,
    "a checksum with a blank": signed(header(b"data/a", 5), b"%7o ") + padded(b"alpha") + B,
    "a Solaris header": pax(("path", "data/a"), kind=b"X") + member(b"a") + B,
    "a size in an extended header": pax(("size", "5")) + header(b"data/a") + padded(b"alpha") + B,
    "a long name": long_name(b"data/a") + member(b"cut short", magic=GNU) + B,
    "a long link beside a long name": member(b"././@LongLink", b"x\0", b"K", magic=GNU)
    + long_name(b"data/a")
    + member(b"cut")
    + B,
    "a long name beside an extended header": pax(("mtime", "1")) + long_name(b"data/a") + member(b"cut") + B,
    "an extended header of the whole tar": pax(("comment", "x"), ("mtime", "17"), kind=b"g") + member(b"data/a") + B,
    "a folder with a size": header(b"data/", 512, b"5") + member(b"data/a") + B,
    "a folder that has no size twice": pax(("size", "0")) + header(b"data/", 0, b"5") + member(b"data/a") + B,
    "an old folder with a long name": long_name(b"data/") + header(b"cut/", 0, b"\0", magic=V7) + member(b"data/a") + B,
    "two names that are one": pax(("path", "data/a")) + long_name(b"data/a") + member(b"cut", magic=GNU) + B,
    "names with other parts": member(b"./data//a") + member(b"data/./b", b"beta"),
    **{
        f"the time {time!r} in an extended header": pax(("mtime", time)) + member(b"data/a") + B
        for time in ("", "-1.5", "1e3", "1480428545.123456789", "nan", "soon", "9" * 30, "-0", "5.", "-1")
    },
    "a record whose length has a nought before it": member(b"extended", b"014 mtime=1.5\n", b"x")
    + member(b"data/a")
    + B,
    "something behind the end": member(b"data/a") + B + END + b"junk" * 128,
}
# Of each, at least two readers make different things; and what we say of it.
DISPUTED = {
    **{
        f"the size {field!r}": (member(b"data/a", size=field.ljust(12, b"\0")) + B, "the size .* is not a number")
        for field in (
            *(b"+5", b"0_5", b"0o5", "\u0665".encode(), b"5 5", b"5junk", b"\t5", b"\x005", b"-5", b" " * 12),
            *(b"\x81" + bytes(10) + b"\5", b"\xff" * 12),
        )
    },
    **{
        f"the size {size!r} in an extended header": (
            pax(("size", size)) + header(b"data/a") + padded(b"alpha") + B,
            "gives the size",
        )
        for size in ("+5", "1_0", "\u0665", "0x5", "", " 5", "5 ", "-5")
    },
    **{
        f"the checksum {form!r}": (
            member(b"data/a") + signed(header(b"data/b", 4), form) + padded(b"beta"),
            "no valid header",
        )
        for form in (b"+%06o\0", b"0o%05o\0", b"%04o\0\xd9\xa5 ", b"0_%05o\0", b"\0%06o\0", b"\t%06o\0")
    },
    "an owner that is no number": (
        member(b"data/a") + member(b"data/b", b"beta", uid=b"nobody\0\0"),
        "the uid .* is not a",
    ),
    "a time that is no number": (
        member(b"data/a") + member(b"data/b", b"beta", mtime=b"yesterday\0\0\0"),
        "time .* is not a",
    ),
    "a sign in the first header": (member(b"data/a", mtime=b"-0000000017\0") + B, "time .* is not a number"),
    "a folder that holds what looks like members": (
        pax(("size", "1024")) + header(b"data/", 0, b"5") + member(b"data/a") + B,
        "a folder, but has a file's size",
    ),
    "a folder's size that no disk holds": (
        header(b"data/", 0, b"5", size=b"\x80\1" + bytes(10)) + B,
        "size .* is not a number",
    ),
    "two extended headers": (
        pax(("path", "data/a")) + pax(("path", "data/c")) + member(b"x") + B,
        "two extended headers",
    ),
    "two long names": (
        long_name(b"data/a") + long_name(b"data/c") + member(b"x", magic=GNU) + B,
        "two extended headers",
    ),
    "a name and another one in front": (
        long_name(b"data/c") + pax(("path", "data/a")) + member(b"x", magic=GNU) + B,
        "two names",
    ),
    "a name of the whole tar": (
        pax(("path", "data/c"), kind=b"g") + member(b"data/a") + B,
        "header of the whole tar gives path",
    ),
    "a size of the whole tar": (
        pax(("size", "512"), kind=b"g") + member(b"data/a") + B,
        "header of the whole tar gives size",
    ),
    "a slash behind a file's name": (member(b"data/a/") + B, "has a folder's name, but is a file"),
    "a slash behind an old file's name": (member(b"data/a/", b"alpha", b"\0", magic=V7) + B, "has a folder's name"),
    "a slash behind an empty file's name": (member(b"data/a/", b"") + B, "has a folder's name"),
    "a slash behind a long name": (
        long_name(b"data/a/") + member(b"x", b"", b"\0", magic=GNU) + B,
        "has a folder's name",
    ),
    "a slash behind the name that does not count": (
        long_name(b"data/a") + header(b"x/", 0, b"\0", magic=V7) + B,
        "has a folder's name",
    ),
    "a slash behind a name in an extended header": (pax(("path", "data/a/")) + member(b"x") + B, "has a folder's name"),
    "a prefix in a header of GNU's": (
        member(b"data/a", magic=GNU, prefix=b"14235671234\0") + B,
        "a longer name for some",
    ),
    "a prefix in an old header": (member(b"data/a", magic=V7, prefix=b"data") + B, "a longer name for some"),
    "the size of a sparse file in a header of GNU's": (
        member(b"data/a", magic=GNU, prefix=bytes(138) + b"00000000007\0") + B,
        "is a sparse file",
    ),
    "the size of a sparse file as star has it": (
        pax(("SCHILY.realsize", "9")) + member(b"data/a") + B,
        "is a sparse file",
    ),
    "an empty name": (pax(("path", "")) + member(b"data/a") + B, "an empty name"),
    "a record that is too long": (member(b"extended", b"99 path=data/c\n", b"x") + member(b"data/a") + B, "truncated"),
    "a record without a line's end": (
        member(b"extended", b"15 path=data/cx", b"x") + member(b"data/a") + B,
        "truncated",
    ),
    "nothing but NULs behind a record": (
        member(b"extended", record("path", "data/c") + bytes(10), b"x") + member(b"data/a") + B,
        "no length",
    ),
    "a record behind the end": (
        header(b"extended", 13, b"x")
        + padded(record("mtime", "1.5") + record("path", "data/c"))
        + member(b"data/a")
        + B,
        "goes on behind its end",
    ),
    "a long name that goes on behind its end": (
        header(b"././@LongLink", 6, b"L", magic=GNU) + padded(b"data/a-and-more") + member(b"x", magic=GNU) + B,
        "does not end with it",
    ),
    "an extended header without a member": (member(b"data/a") + B + pax(("path", "data/c")), "is of no member"),
}
# These are refused though readers agree: what they make of it is not what is written there.
DAMAGED = {
    "a long name and another name": (
        pax(("path", "data/a")) + long_name(b"data/c") + member(b"x", magic=GNU) + B,
        "two names",
    ),
    "a record of no length": (
        member(b"extended", b"\0" + record("path", "data/c"), b"x") + member(b"data/a") + B,
        "no length",
    ),
    "a record after a blank": (member(b"extended", b" 15 path=data/c\n", b"x") + member(b"data/a") + B, "no length"),
    "a record with a sign": (member(b"extended", b"+16 path=data/c\n", b"x") + member(b"data/a") + B, "no length"),
}
