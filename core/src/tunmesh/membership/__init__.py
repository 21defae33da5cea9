"""Who is in the mesh: signed records, how they spread, who is alive, who owns which address.

Sans-I/O: the time is an argument, messages go in and come out as bytes.
"""
