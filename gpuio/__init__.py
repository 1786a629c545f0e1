"""Load RecordIO image sets onto the GPU."""
