"""Local and remote bytes, paths and shards, files that appear when they are complete."""
