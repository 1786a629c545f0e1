"""Records of RecordIO files: where they lie, and how a batch of them is read."""
