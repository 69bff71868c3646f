"""Sweeps on the test bed while everything that may break breaks: `python -m tests.chaos`."""
