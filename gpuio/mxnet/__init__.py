"""MXNet's side: its iterators, `mx.image` and its arrays."""
