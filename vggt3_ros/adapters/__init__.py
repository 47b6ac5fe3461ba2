"""Other feed-forward networks as the prior, each in a process of its own: its interpreter, its
torch and its licence stay outside.

`network.adapter` names a class (`module:Class` or `file.py:Class`), which host.py runs in the
interpreter `network.adapter_python`, or a command that speaks the same protocol. This folder needs
numpy and, in host.py's process, what the network needs; no other part of vggt3_ros but
system/wire.py and network/licences.py, and not Python 3.11.

A class is made with (weights, device, dtype): weights is `network.checkpoint`, empty: its own
default; device and dtype may be "auto". It has the attributes of contract.About and is called with
a list of contract.View: see contract.Answer.

Protocol, in the frames of system/wire.py (a JSON header and raw bytes, length-prefixed), on the
Unix socket that VGGT3_ADAPTER_SOCKET names in the command's environment and {socket} in its words;
the adapter connects:

    adapter  {"hello": 1, "name", "weights", "licence", "device", "dtype", "takes": of intrinsics,
    depth, poses; "patch": pixels that both
             sides of an image are a multiple of}                              or {"failed": text}
             at any time: the request has failed
    back end {"begin": number, "views": N}
             {"view": number, "size": [H, W], "intrinsics": 9 numbers or null, "pose": 16 numbers
             (camera to world, metres) or null, "depth": whether it is there, "dense": whether
             depth is wanted}   H x W x 3 bytes of RGB, then H x W float32 metres along z ... N of
             them, then {"run": number}
    adapter  {"progress": number, "fraction"}                                  now and then, if it
    likes
             {"seen": number, "index", "pose": 16 numbers or null, "intrinsics": 9 numbers or null,
             "dense": [h, w] or null} h x w float32 depth along z, then h x w float32 confidence: 1
             is not sure at all, 1 + exp(x) as these networks have it ... N of them, then {"done":
             number, "poses": camera_from_world or world_from_camera, "metric": whether it claims
             metres}

What is of an older number is to be ignored: that request was given up. Numbers are little-endian.
"points": "camera" or "world" in a "seen" says that h x w x 3 float32 points stand in place of the
depth, in the frame of that camera or of the poses.
"""
