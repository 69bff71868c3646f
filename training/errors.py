"""Errors of the training floor that a user can act on."""


class DataError(Exception):
    """The data are not what training needs; the message names the file and the row.

    Args:
        message: what is wrong, where, what was found and what was expected. Several problems are
            joined by newlines, one a line.
        hint: a command or an edit that helps; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def told(self) -> str:
        """Message and hint, for a line that has no place of its own for a hint."""
        return f"{self.message} ({self.hint})" if self.hint else self.message
