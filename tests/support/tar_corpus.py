"""Tars as the programs of the world write and pack them, as far as these are installed."""

import os
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

FILES = {
    "data/a.txt": b"alpha\n",
    "data/empty": b"",
    "data/block": b"b" * 512,
    "data/more": b"m" * 1000,
    f"data/{'long' * 30}": b"a name of more than 100 bytes",
    f"data/{'/'.join(['folder' * 10] * 5)}/deep": b"a path of more than 255 bytes",
    "data/é": b"a name that is not ASCII",
    "data/with space": b"s",
    "data/back\\slash": b"b",
    "data/line\nend": b"l",
    "data/before 1970": b"1960",
    "data/after 2242": b"2300",
    "metadata.txt": b"[]",
}
TIMES = {"data/before 1970": -310_157_633.25, "data/after 2242": 10_413_792_000.0}
PERL = """
use Archive::Tar;
my $tar = Archive::Tar->new;
open(my $list, "<", "../list");
local $/ = "\\0";
while (<$list>) { chomp; $tar->add_files($_) }
$tar->write($ARGV[0]);
"""
# Each is run by a shell in the folder of the files, and writes "$out".
WRITERS = {
    "GNU tar, v7": 'tar --format=v7 -cf "$out" data metadata.txt',
    "GNU tar, oldgnu": 'tar --format=oldgnu -cf "$out" data metadata.txt',
    "GNU tar, gnu": 'tar --format=gnu -cf "$out" data metadata.txt',
    "GNU tar, ustar": 'tar --format=ustar -cf "$out" data metadata.txt',
    "GNU tar, posix": 'tar --format=posix -cf "$out" data metadata.txt',
    "GNU tar, posix without times": 'tar --format=posix --pax-option=delete=*time -cf "$out" metadata.txt data',
    "GNU tar, posix with a comment": 'tar --format=posix --pax-option=comment=x -cf "$out" ./data metadata.txt',
    "GNU tar, appended": 'tar --format=gnu -cf "$out" data && tar --format=gnu -rf "$out" metadata.txt',
    "GNU tar, in blocks": 'tar --format=gnu -b 1 -cf "$out" ./metadata.txt ./data',
    "bsdtar, v7tar": 'bsdtar --format=v7tar -cf "$out" data metadata.txt',
    "bsdtar, ustar": 'bsdtar --format=ustar -cf "$out" data metadata.txt',
    "bsdtar, gnutar": 'bsdtar --format=gnutar -cf "$out" data metadata.txt',
    "bsdtar, pax": 'bsdtar --format=pax -cf "$out" data metadata.txt',
    "bsdtar, as it is": 'bsdtar -cf "$out" data metadata.txt',
    "busybox": 'busybox tar -cf "$out" data metadata.txt',
    "7z, gnu": '7z a -ttar -mm=gnu "$out" data metadata.txt',
    "7z, pax": '7z a -ttar -mm=pax "$out" data metadata.txt',
    "pax, ustar": 'pax -w -x ustar -f "$out" data metadata.txt',
    "pax, tar": 'pax -w -x tar -f "$out" data metadata.txt',
    "cpio, ustar": 'cpio -0o -H ustar < ../list > "$out"',
    "cpio, tar": 'cpio -0o -H tar < ../list > "$out"',
    "perl": 'perl -e "$PERL" "$out"',
    "git": (
        "git init -q . && git add data metadata.txt && git -c user.name=x -c user.email=x commit -qm x"
        ' && git archive --format=tar -o "$out" HEAD; rm -rf .git'
    ),
}
# Each packs its standard input.
PACKERS = {
    "gzip": "gzip -c",
    "pigz": "pigz -c -b 128",
    "bzip2": "bzip2 -c",
    "pbzip2": "pbzip2 -c -b1",
    "xz": "xz -c",
    "xz, in blocks": "xz -c -T2 --block-size=4096",
    "zstd": "zstd -qc",
    "zstd, long": "zstd -qc --long=27 -19",
}


def write_corpus(folder: Path) -> dict[str, Path]:
    """What each writer makes of the files, by the writer's name. Some formats cannot hold all of them."""
    tree = folder / "tree"
    for name, content in FILES.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (TIMES.get(name, 1480428545.5),) * 2)
    (folder / "list").write_bytes(b"".join(f"{name}\0".encode() for name in FILES))
    environment = {**os.environ, "PERL": PERL, "LC_ALL": "C.UTF-8"}
    corpus = {}
    for number, (name, line) in enumerate(WRITERS.items()):
        out = folder / f"{number}.tar"
        if is_installed(line):
            subprocess.run(["sh", "-c", line], cwd=tree, env={**environment, "out": str(out)}, capture_output=True)
            corpus[name] = out
    for form, number in (("ustar", tarfile.USTAR_FORMAT), ("GNU", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        corpus[f"Python, {form}"] = out = folder / f"python-{form}.tar"
        with tarfile.open(out, "w", format=number) as tar:
            for name in FILES if number != tarfile.USTAR_FORMAT else ("data/a.txt", "data/é", "metadata.txt"):
                tar.add(tree / name, name)
    return corpus


def is_installed(line: str) -> bool:
    """Whether the program that a line of a shell begins with is there."""
    return shutil.which(line.split()[0]) is not None


def packed(raw: bytes, line: str) -> bytes:
    """The bytes, as a packer packs them."""
    return subprocess.run(line.split(), input=raw, stdout=subprocess.PIPE, check=True).stdout


def by_pacifica_cli(raw: bytes) -> bytes:
    """The bytes, as pacifica-cli --local-compress gzip packs them: each MiB by itself, with zlib."""
    step = 1 << 20
    return b"".join(zlib.compress(raw[start : start + step], 9) for start in range(0, len(raw), step))
