"""JPEG in compiled code, each stage of coding and decoding in a file of its own."""
