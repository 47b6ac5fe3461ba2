"""Speaks the protocol of vggt3_ros/frontend/tracker_process.py: answers for frames 0, 1, ... are
read from the file named.
"""

import json
import sys
from pathlib import Path

answers = json.loads(Path(sys.argv[1]).read_text())
while line := sys.stdin.buffer.readline():
    head = json.loads(line)
    pixels = sys.stdin.buffer.read(head["width"] * head["height"] * 3)
    depth = sys.stdin.buffer.read(head["width"] * head["height"] * 4)
    if (
        len(pixels) != head["width"] * head["height"] * 3
        or len(depth) != head["width"] * head["height"] * 4
        or not answers
    ):
        sys.exit(3)
    print(json.dumps(answers.pop(0)), flush=True)
