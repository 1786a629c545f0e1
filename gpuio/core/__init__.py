"""What every part uses: parameters, threads, prefetching, timing."""
