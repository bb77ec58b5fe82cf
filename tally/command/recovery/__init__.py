"""``tally recover``: the map is made anew from what the copies have. ``decision`` and ``readiness`` are pure."""
