"""From slides to paired embeddings: read, find tissue, cut tiles, register scans, encode."""
