"""A body of any length cut into its lines, each of which is an order (NDJSON)."""

from enum import Enum


class TooLong(Enum):
    """Stands for a line that is longer than a line may be; nothing of it was kept."""

    LINE = "too long"


Line = bytes | TooLong


class Lines:
    """Cuts pieces of any size into lines, and never holds more than one line of the size allowed.

    A line is what stands before a line feed; what stands behind the last one is a line too, unless
    it is empty.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._bytes_max = line_bytes_max
        self._begun = bytearray()  # Of the line that has not ended yet.
        self._too_long = False  # That line is, and is passed over.

    def feed(self, piece: bytes) -> list[Line]:
        """Return the lines that end in this piece."""
        parts = piece.split(b"\n")
        begun = parts.pop()
        if not parts:
            self._add(begun)
            return []
        self._add(parts[0])
        lines: list[Line] = [self._end(), *parts[1:]]
        if len(piece) > self._bytes_max:
            lines = [self._bounded(line) for line in lines]
        self._add(begun)
        return lines

    def rest(self) -> list[Line]:
        """Return the last line, which no line feed ended, if there is one."""
        return [self._end()] if self._begun or self._too_long else []

    def _add(self, part: bytes) -> None:
        if not self._too_long:
            self._too_long = len(self._begun) + len(part) > self._bytes_max
            if not self._too_long:
                self._begun += part
        if self._too_long:
            self._begun.clear()

    def _end(self) -> Line:
        line = TooLong.LINE if self._too_long else bytes(self._begun)
        self._begun.clear()
        self._too_long = False
        return line

    def _bounded(self, line: Line) -> Line:
        return line if isinstance(line, TooLong) or len(line) <= self._bytes_max else TooLong.LINE
