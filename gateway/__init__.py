"""The HTTP door: parsing, answers, limits. No counting, no placement in here.

query, idempotency, malformed   bytes of a request -> what is asked, or why that is not acceptable; pure
answers, problems               answers as values; errors as RFC 9457 tells them
body                            bodies, which nobody needs
app, backend                    path and method -> answer; what that needs of whoever counts
hot_lane                        the requests that come all the time, read straight from their bytes
protocol, timing                what is stricter here than in aiohttp: sizes, time-outs, versions, number of connections
figures                         what a monitor is told
settings, process, workers      the command ``tally-gateway``: one process, or several on one address
"""
