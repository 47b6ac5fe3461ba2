"""The machine and the process: memory, threads, devices, child processes, messages between
processes.
"""
