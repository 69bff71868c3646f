"""From a trial's configuration to predictions; knows no sweep, no Ray and no SLURM."""

RESULTS_VERSION = 1
"""Part of every trial's identity: raised when a change of the code changes results."""
