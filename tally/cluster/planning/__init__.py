"""Where the slots are to be, and what the controller does next for that. Pure."""
