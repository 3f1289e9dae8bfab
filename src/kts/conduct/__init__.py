"""The conductor: a pure state machine that decides, and a driver that does I/O for it."""
