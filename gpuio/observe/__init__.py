"""Where the time goes, and what images look like."""
