"""Reading the ends of files that grow: no more than is asked for, whatever their size."""

from pathlib import Path

LIMIT_BYTES = 4 * 2**20


def last_lines(path: Path, count: int, *, limit_bytes: int = LIMIT_BYTES) -> list[str]:
    """Read a file's last lines; of the last `limit_bytes` only, without a line cut there."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - limit_bytes))
        text = file.read(limit_bytes)
    lines = text.split(b"\n")
    if size > limit_bytes and len(lines) > 1:
        del lines[0]
    if not lines[-1]:
        del lines[-1]
    return [line.decode(errors="replace") for line in lines[-count:]] if count else []


class Tail:
    """Reads what was appended to files since the last look, whole lines only."""

    def __init__(self) -> None:
        self._offsets: dict[Path, int] = {}

    def skip(self, path: Path) -> None:
        """Leave out what a file holds now."""
        self._offsets[path] = path.stat().st_size if path.is_file() else 0

    def read(self, path: Path) -> list[str]:
        """Return the new lines; one that is not whole yet comes later, a new file from its start.

        About 4 MiB a look, the rest comes with the next ones; a longer line is read whole.
        """
        try:
            with path.open("rb") as file:
                at = self._offsets.get(path, 0)
                if file.seek(0, 2) < at:
                    at = 0  # replaced by a shorter one
                file.seek(at)
                text = file.read(LIMIT_BYTES)
                while b"\n" not in text and (more := file.read(LIMIT_BYTES)):
                    text += more
        except FileNotFoundError:
            return []
        end = text.rfind(b"\n") + 1
        self._offsets[path] = at + end
        return text[:end].decode(errors="replace").removesuffix("\n").split("\n") if end else []
