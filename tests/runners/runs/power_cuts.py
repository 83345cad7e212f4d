"""What a disk may hold after a power cut: reconstructed from the system calls of a process.

What was written to a file is sure from the next fsync of the file on, and a name (made, renamed, removed) from the next
fsync of its folder on. Of what came later any first part may be there, of each file and each folder by itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: The system calls that change files.
CALLS = (
    "openat,write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync,ftruncate,mkdir,lseek,"
    "copy_file_range,sendfile"
)
STRACE = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS}"]

_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})*")
_LINE = re.compile(r"(\d+)\s+(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?", re.DOTALL)
_PATHS = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


def decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def calls(log: Path) -> Iterator[tuple[str, str, int, str]]:
    """The calls that succeeded: name, arguments, result, and the path behind a descriptor that was returned."""
    unfinished: dict[str, str] = {}
    for line in log.read_text().splitlines():
        pid, text = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<..."):
            text = unfinished.pop(pid) + text.partition("resumed>")[2]
        if (match := _CALL.match(text)) and int(match[3]) >= 0:
            yield match[1], match[2], int(match[3]), decoded(match[4] or "").decode(errors="replace")


@dataclass
class File:
    """A file's contents: what is sure, and what came later, write by write."""

    sure: bytes = b""
    later: list[tuple[int, bytes | None]] = field(default_factory=list)  # at an offset; None truncates there

    def content(self, first: int | None = None) -> bytes:
        """With the first so many of the later writes."""
        found = bytearray(self.sure)
        for offset, data in self.later[:first]:
            if data is None:
                del found[offset:]
            else:
                found[offset : offset + len(data)] = data
        return bytes(found)

    def sync(self) -> None:
        self.sure, self.later = self.content(), []


class Disk:
    """Files below a folder, as calls change them.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path):
        self.root = root
        self.now: dict[str, File] = {}
        self.sure: dict[str, File] = {}
        self.later: dict[str, list[tuple[str, File | None]]] = {}  # by folder: a name, and what it is from then on
        self.folders: set[str] = set()

    def apply(self, name: str, arguments: str, result: int, returned: str) -> bool:
        """Whether the call has changed anything here."""
        paths = [decoded(each).decode(errors="replace") for each in _PATHS.findall(arguments)]
        on = decoded(match[1]).decode(errors="replace") if (match := _FILE.match(arguments)) else ""
        if name == "openat" and self._is_here(returned) and "O_DIRECTORY" not in arguments:
            return self._open(returned, arguments)
        if name == "mkdir" and self._is_here(paths[0]):
            self.folders.add(paths[0])
            return False
        if name in ("rename", "renameat", "renameat2") and self._is_here(paths[-1]):
            file = self.now.pop(paths[0])
            self._name(paths[0], None)
            self._name(paths[-1], file)
            return True
        if name in ("unlink", "unlinkat") and self._is_here(paths[0]) and paths[0] in self.now:
            del self.now[paths[0]]
            self._name(paths[0], None)
            return True
        if name in ("write", "pwrite64", "ftruncate", "lseek", "fsync", "fdatasync") and self._is_here(on):
            return self._on(name, on, arguments, result)
        assert name not in ("writev", "copy_file_range", "sendfile") or not self._is_here(on), name
        return False

    def _is_here(self, path: str) -> bool:
        return path.startswith(f"{self.root}/")

    def _name(self, path: str, file: File | None) -> None:
        if file is not None:
            self.now[path] = file
        self.later.setdefault(str(Path(path).parent), []).append((path, file))

    def _open(self, path: str, arguments: str) -> bool:
        self.offsets = getattr(self, "offsets", {})
        new = path not in self.now
        if new and "O_CREAT" in arguments:
            self._name(path, File())
        file = self.now.get(path)
        if file is None:  # a folder
            return False
        if "O_TRUNC" in arguments and file.content():
            file.later.append((0, None))
        self.offsets[path] = len(file.content()) if "O_APPEND" in arguments else 0
        return new

    def _on(self, name: str, path: str, arguments: str, result: int) -> bool:
        if name.startswith("f") and name.endswith("sync"):
            if path in self.now:
                self.now[path].sync()
            for changed, file in self.later.pop(path, ()):
                self.sure.pop(changed, None)
                if file is not None:
                    self.sure[changed] = file
            return True
        file = self.now.get(path)
        if file is None:
            return False
        if name == "ftruncate":
            file.later.append((int(arguments.rpartition(", ")[2]), None))
        elif name == "lseek":
            self.offsets[path] = result
            return False
        else:
            data = decoded(_PATHS.findall(arguments)[0])[:result]
            at = int(arguments.rpartition(", ")[2]) if name == "pwrite64" else self.offsets[path]
            file.later.append((at, data))
            if name == "write":
                self.offsets[path] = at + len(data)
        return True

    def after_a_cut(self, rng: random.Random) -> dict[str, bytes]:
        """What may be found: of each folder and each file what is sure, and any first part of what came later."""
        names = dict(self.sure)
        for changes in self.later.values():
            for path, file in changes[: rng.randint(0, len(changes))]:
                names.pop(path, None)
                if file is not None:
                    names[path] = file
        return {path: self._torn(file, rng) for path, file in names.items()}

    @staticmethod
    def _torn(file: File, rng: random.Random) -> bytes:
        if not file.later:
            return file.sure
        whole = rng.randint(0, len(file.later))
        before = file.content(whole)
        if whole == len(file.later) or file.later[whole][1] is None:
            return before
        offset, data = file.later[whole]
        assert data is not None
        part = data[: rng.randint(0, len(data))]
        return before[:offset] + part + before[offset + len(part) :]
