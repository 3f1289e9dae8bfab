"""What crosses a process boundary: conductor messages, record chunks, KTS_APP lines. Pure: bytes in, values out."""
