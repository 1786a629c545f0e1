"""Files at URLs, through fsspec: read by many ranges at once, copied on the way, written whole.

Nothing here is imported before a path is a URL. Requests run on the one thread that fsspec has for
all its filesystems. A filesystem does not survive a fork: readers of a single .rec open it anew in
the child; an iterator belongs to the process that made it.
"""
