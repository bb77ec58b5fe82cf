"""The HTTP door: parsing, answers, limits. No counting, no placement in here.

query       the bytes after the ``?`` -> what is asked; pure
malformed   what is not acceptable as HTTP -> why; pure
problems    errors as RFC 9457 tells them
protocol    what is stricter here than in aiohttp: sizes, time-outs, versions, number of connections
body        bodies, which nobody needs
app         path and method -> answer
backend     what the answers need of whoever counts
settings, process, __main__    the command ``tally-gateway``
"""
