"""Errors of the orchestrator that a user can act on.

SweepError
├── SpecError    the spec is wrong: file, line and key
├── PlanError    the plan cannot be made
└── StoreError   a results folder is missing, foreign or damaged

`training.errors.DataError` and `cluster.errors.ClusterError` come from below and are shown alike.
"""


class SweepError(Exception):
    """Something the user can mend.

    Args:
        message: what is wrong, where, what was found and what was expected. Several problems are
            joined by newlines, one a line.
        hint: a command or an edit that helps; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(SweepError):
    """The sweep spec is wrong; the message names file, line and key."""


class PlanError(SweepError):
    """The plan cannot be made from this spec, data and profile."""


class StoreError(SweepError):
    """A results folder is missing, belongs to something else, or is damaged."""
