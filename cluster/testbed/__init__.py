"""A real SLURM on this machine, for tests; cluster/README.md describes it."""
