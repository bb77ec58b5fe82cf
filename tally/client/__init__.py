"""The routed client: takes events and questions for any hour to the shards that own them.

    outbox, suspects, quarantine, coalescer, hour_read   the rules: pure
    writing, blame, last_words, reading                  their drivers
    link, channel, jitter                                one stream to one shard
    shared_look                                          one look at the shards for all who ask whether they serve
    client                                               all of it
    counts, receipt, readiness                           what callers get

It knows slots and shards; what an hour or a user is, ``hashing`` and ``event`` say.
"""
