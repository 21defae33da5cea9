"""The admin socket of a running node: its server, its client, and the documents it speaks."""
