"""Lists of images, and packing them into .rec files."""
