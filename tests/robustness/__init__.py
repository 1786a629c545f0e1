"""A fuzzing harness: damaged files through every door, each in a child that may crash or hang.

    make fuzz MINUTES=30

| file | one responsibility |
| --- | --- |
| `pictures.py` | sound images in every format that Pillow writes |
| `mutate.py` | damage to any bytes, to records, to lines of text, to saved arrays |
| `formats.py` | damage to an image that leaves its format's structure readable |
| `case.py` | one damaged input of a door, and what came of it |
| `doors.py`, and `iterator_doors.py` and so on | the ways into gpuio |
| `judge.py` | runs one case and says what came of it |
| `worker.py` | the child: runs many cases, and notes each one before it begins |
| `runner.py` | the parent: limits of memory and time, and whose fault a crash is |
| `minimise.py` | the smallest damage that still does it |
| `stress.py` | two lanes, threads, resets, closes, forks, collections and exits |
| `shim.c`, `injection.py` | every call to the system fails once, in turn |
"""
