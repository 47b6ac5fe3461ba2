"""Other feed-forward networks as the prior, each in a process of its own, which keeps its
interpreter, its torch and its licence separate.

`network.adapter` names a class (`module:Class` or `file.py:Class`), which host.py runs in the
interpreter `network.adapter_python`, or a command that speaks the same protocol. This folder needs
numpy, and in host.py's process whatever the network needs. Of vggt3_ros it uses only
system/wire.py and network/licences.py. It does not require Python 3.11.

A class is constructed with (weights, device, dtype). weights is `network.checkpoint`; empty
selects the class's default. device and dtype may be "auto". The object has the attributes of
contract.About and is called with a list of contract.View; it returns a contract.Answer.

The protocol uses the frames of system/wire.py (a JSON header and raw bytes, length-prefixed) on a
Unix socket. Its path is in the environment variable VGGT3_ADAPTER_SOCKET of the command, and
replaces {socket} in its words. The adapter connects.

    adapter  {"hello": 1, "name", "weights", "licence", "device", "dtype",
              "takes": subset of intrinsics, depth, poses,
              "patch": both sides of an image are multiples of this many pixels}
             or, at any time, {"failed": text}: the request has failed
    back end {"begin": number, "views": N}
             {"view": number, "size": [H, W], "intrinsics": 9 numbers or null,
              "pose": 16 numbers (camera to world, metres) or null,
              "depth": whether it follows, "dense": whether depth is requested}
             payload: H x W x 3 bytes of RGB, then H x W float32 metres along z
             ... N of them, then {"run": number}
    adapter  {"progress": number, "fraction"}, optionally and repeatedly
             {"seen": number, "index", "pose": 16 numbers or null,
              "intrinsics": 9 numbers or null, "dense": [h, w] or null}
             payload: h x w float32 depth along z, then h x w float32 confidence,
             which is at least 1, the lowest: 1 + exp(x) for these networks
             ... N of them, then {"done": number,
              "poses": camera_from_world or world_from_camera,
              "metric": whether the network claims metres}

Frames with an older number must be ignored: that request was abandoned. Numbers are little-endian.
"points": "camera" or "world" in a "seen" header means that h x w x 3 float32 points replace the
depth, in the frame of that camera or of the poses.
"""
