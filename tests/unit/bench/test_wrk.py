"""How wrk is told what to do, and what it says."""

import pytest

from bench.errors import LoadFailed
from bench.load.wrk import Load, parse_output, script_environment
from bench.workloads import MIX

OUTPUT = """\
Running 1s test @ http://127.0.0.1:18099/
  1 threads and 64 connections
  83595 requests in 1.40s, 8.77MB read
Requests/sec:  59632.04

{"answered": 83595, "seconds": 1.400000, "sent": 83650, "sent_posts": 41000, "p50_us": 700, "p99_us": 1500, \
"p999_us": 4000, "refused": 0, "broken": 0, "late": 0}
"""


def test_output_is_read_from_its_last_line() -> None:
    load = parse_output(OUTPUT)
    assert load == Load(83595, 1.4, 83650, 41000, 700, 1500, 4000, 0, 0, 0)
    assert load.failure is None


def test_output_without_that_line_is_told_whole() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        parse_output("unable to connect to 127.0.0.1:1 Connection refused")


def test_any_answer_but_success_voids_the_figures() -> None:
    load = parse_output(OUTPUT)
    assert load._replace(refused=3, late=1).failure == "3 refused, 1 late"
    assert load._replace(answered=0).failure == "nothing was answered"


def test_script_gets_the_workload() -> None:
    environment = script_environment(MIX, hour=490_000, seed=7)
    assert environment["BENCH_HOUR"] == "490000"
    assert environment["BENCH_POST_SHARE"] == "0.5"
    assert environment["BENCH_PAST_SHARE"] == "0.05"
    assert environment["BENCH_SEED"] == "7"
