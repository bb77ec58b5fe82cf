"""One question a file: each measures something and says what it found."""
