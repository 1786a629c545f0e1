"""MXNet's iterators over batches."""
