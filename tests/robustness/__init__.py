"""A fuzzing harness: damaged files through every door, each in a child that may crash or hang.

    make fuzz MINUTES=30

| file | what it does |
| --- | --- |
| `pictures.py` | valid images in every format that Pillow writes |
| `mutate.py` | damage to any bytes, to records, to lines of text, to saved arrays |
| `formats.py` | damage to an image that leaves its format's structure readable |
| `jpeg_seeds.py`, `jpeg_damage.py` | the same for gpuio's own JPEG decoder |
| `case.py` | one damaged input of a door, and what came of it |
| `doors.py`, and `iterator_doors.py` and so on | the ways into gpuio |
| `judge.py` | runs one case and says what came of it |
| `worker.py` | the child: runs many cases, and notes each one before it begins |
| `runner.py` | the parent: limits of memory and time, and which case caused a crash |
| `minimise.py` | the smallest damage that still causes the fault |
| `stress.py` | two batches in flight, threads, resets, closes, forks, collections and exits |
| `shim.c`, `injection.py` | every call to the system fails once, in turn |
"""
