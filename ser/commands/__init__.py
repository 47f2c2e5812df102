"""The commands, one module a group; `ser.commands.main` puts them together."""
