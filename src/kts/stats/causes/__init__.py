"""Why a tenant took longer: what was added to its response time, in parts with a name, a size, an interval and the data
that show it. Pure. The method is in docs/attribution.md.

kept.py keeps iterations of a run; own.py tells a tenant's own time from others'; components.py splits each iteration;
allocation.py says what each component makes of a statistic's change; table.py and the files it names give it a cause;
decompose.py puts them together.
"""
