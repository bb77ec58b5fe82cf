"""The ``tally`` command: ``up``, ``create``, ``status``, ``import``.

Results go to stdout, complaints to stderr. Exit status: 0 done, 1 not done, 2 wrongly called.
"""
