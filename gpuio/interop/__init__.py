"""Batches for training frameworks: pairs of images and labels in their own kinds of array."""
