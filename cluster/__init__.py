"""SLURM and Ray processes, and profiles of clusters; knows no sweep."""
