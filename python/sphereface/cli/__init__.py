"""The command ``sphereface``: one module a subcommand, which parses, calls and prints."""
