"""Attention-MIL heads: ordinary modules, one a file."""
