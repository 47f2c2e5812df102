"""The commands, one module a group; `ser.cli` puts them together."""
