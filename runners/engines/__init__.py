"""What runs the runs of a sweep: processes of this machine, Ray, Slurm.

Nothing is imported here: a node of a cluster needs :mod:`neoteny.runners.engines.work` alone, which is imported in no
time and takes no memory.
"""
