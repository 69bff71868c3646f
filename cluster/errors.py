"""Errors of the cluster floor that a user can act on."""


class ClusterError(Exception):
    """SLURM or Ray refused, is unreachable, or a profile is wrong.

    Args:
        message: what was asked and what came back.
        hint: a command or an edit that helps; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProfileError(ClusterError):
    """A profile is wrong, or none is named where one is needed: nothing was asked of SLURM."""


class NoProfileError(ProfileError):
    """SLURM is here, and nobody says how to use it."""


class NoAnswerError(ClusterError):
    """SLURM was asked for something and did not say whether it did it."""
