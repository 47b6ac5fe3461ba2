"""Processes and their resources: memory, threads, devices, child processes, and messages between
processes.
"""
