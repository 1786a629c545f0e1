"""Records from their files into host memory."""
