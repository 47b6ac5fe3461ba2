"""The command vggt3: one module per subcommand. What is heavy is imported when the command
runs.
"""
