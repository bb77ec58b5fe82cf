"""The HTTP door: parsing, answers, limits. No counting, no placement in here.

query, idempotency, malformed   bytes of a request -> what is asked, or why that is not acceptable; pure
answers, problems               answers as values; errors as RFC 9457 tells them
app, backend                    path and method -> answer; what that needs of whoever counts
request, hot_lane, heads        a request; those that come all the time, read straight from their bytes, and all others
inbox, body                     what has come and is not complete; bodies, which nobody needs
waiting                         who has waited for whom, and for how long; pure
protocol, connections, timing   one client's connection; all of them together, and their bounds
figures                         what a monitor is told
settings, process, workers      the command ``tally-gateway``: one process, or several on one address
"""
