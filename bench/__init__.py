"""
The benchmarks: proxyd side by side with its peers, as black boxes over loopback.

C{python -m bench [NAME ...] [--quick] [--rounds N]} starts a PostgreSQL, the
programs to compare and the load, runs every pair interleaved, prints a table
and writes C{bench/results.json}. Nothing here imports proxyd: what is measured
is the program that a person starts. C{docs/benchmarks.md} says what each name
means and how to read it.
"""
