"""From records to batches: plan, read, decode, execute."""
