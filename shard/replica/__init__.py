"""The life of one copy of a slot: pure. Events and time go in, actions come out; PROTOCOL rules by their numbers.

    words      ops, messages, actions
    follower   what every complete copy does: apply, refuse, answer (rules 2, 3, 5, 12)
    joiner     how a copy comes to be: clone or catch-up (rule 9)
    term       what a primary does in one epoch (rules 4 to 8, 10, 15)
    rounds     how it confirms for its readers that it still is one (rule 12)
    silence    when another copy counts as silent, and whether this one may be believed about that (rule 5)
    wishes     what a term asks of the controller (rules 5, 8, 10, 11)
    replica    the three of them as one copy, and its roles
    wire       ops and their names as messages, and back

The engine drives it, and so does the simulator (tests/simulation).
"""
