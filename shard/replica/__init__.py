"""The life of one copy of a slot: pure. Events and time go in, actions come out; PROTOCOL rules by their numbers.

    words      ops, messages, actions
    follower   what every complete copy does: apply, refuse, answer (rules 2, 3, 5, 12)
    joiner     how a copy comes to be: clone or catch-up (rule 9)
    term       what a primary does in one epoch (rules 4 to 8, 10, 12, 15)
    replica    the three of them as one copy, and its roles
    wire       ops and their names as messages, and back

The engine drives it, and so does the simulator (tests/simulation).
"""
