"""What is done to images: one file for each family."""
