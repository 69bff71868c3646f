"""Task and robustness losses. The robustness losses are a reconstruction of arXiv 2602.22347."""
