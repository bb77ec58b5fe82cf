"""The routed client: takes events and questions for any hour to the shards that own them.

outbox, coalescer, hour_read   the rules: pure
counts, receipt                what callers get
link, channel                  one stream to one shard
client                         drives all of them
"""
