"""Benchmarks: Tally beside what a user would pick instead, on one core, in one run, equally durable.

``python -m bench --help`` says how to use it. ``questions`` has one question a file; ``peers`` sets up each system;
``load`` makes the requests; ``goals`` says what is wanted.
"""
