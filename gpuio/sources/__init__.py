"""Where encoded images come from, and which records there are."""
