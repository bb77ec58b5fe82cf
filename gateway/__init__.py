"""The HTTP door: parsing, answers, limits. No counting, no placement in here.

query       the bytes after the ``?`` -> what is asked; pure
problems    errors as RFC 9457 tells them
protocol    what aiohttp's HTTP is stricter about here: sizes, time-outs, versions, connections
app         path and method -> answer
backend     what the answers need of whoever counts
settings, process, __main__    the command ``tally-gateway``
"""
