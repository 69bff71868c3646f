"""What `sweep` costs beside bare training, and beside other ways to train the same trials."""
