"""vggt3 view: look at a saved map."""


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "view",
        help="look at a saved map: points, trajectory, loops; or make a picture of it",
        description="Opens a window (Open3D); with --png it needs no display. `vggt3 export --rerun` writes a "
        "file for the rerun viewer, with the images.",
    )
    parser.add_argument(
        "path",
        metavar="MAP",
        help="a folder that save_map wrote, or a node's store (it may be in use)",
    )
    parser.add_argument(
        "--png", metavar="FILE", help="write a picture instead of opening a window"
    )
    parser.add_argument(
        "--size", metavar="WxH", default="1280x960", help="of the window or picture, pixels"
    )
    parser.add_argument(
        "--max-points", type=int, default=2_000_000, metavar="N", help="thin the points to so many"
    )
    parser.set_defaults(run=run)


def run(arguments):
    from vggt3_ros.cli.saved_map import open_map

    size = _size(arguments.size)
    if arguments.max_points < 1:
        raise ValueError(f"--max-points must be 1 or more, got {arguments.max_points}")
    with open_map(arguments.path) as (_, snapshot):
        cloud = snapshot.cloud.thinned(arguments.max_points)
    if arguments.png:
        from vggt3_ros.surface.export.picture import write_picture

        write_picture(arguments.png, snapshot, cloud, size)
    else:
        show(snapshot, cloud, size, arguments.path)
    print(
        f"map {snapshot.generation}: {len(snapshot)} keyframes, {len(cloud)} points, "
        f"{sum(loop.accepted for loop in snapshot.loops)} loops"
    )
    return 0


def _size(text):
    width, _, height = text.partition("x")
    if not (
        width.isdigit()
        and height.isdigit()
        and 64 <= int(width) <= 8192
        and 64 <= int(height) <= 8192
    ):
        raise ValueError(f"--size must be WIDTHxHEIGHT, 64 to 8192 pixels each, got '{text}'")
    return int(width), int(height)


def show(snapshot, cloud, size, title):
    """A window until it is closed. ValueError where there is no display."""
    import os
    import sys

    import numpy as np
    import open3d as o3d

    no_window = ValueError(
        "no window can be opened here (no display?): make a picture with --png FILE, or export it with `vggt3 export`"
    )
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise no_window  # Open3D would draw into nothing, for ever

    def lines(points, pairs, color):
        ends = o3d.utility.Vector2iVector(np.reshape(pairs, (-1, 2)).astype(np.int32))
        out = o3d.geometry.LineSet(o3d.utility.Vector3dVector(points), ends)
        out.paint_uniform_color(color)
        return out

    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.around_origin.astype(float)))
    points.colors = o3d.utility.Vector3dVector(cloud.colors / 255.0)
    centres, order = (
        snapshot.T_map_cam[:, :3, 3] - cloud.origin,
        np.argsort(snapshot.stamps_ns, kind="stable"),
    )
    row = {int(id): k for k, id in enumerate(snapshot.keyframe_ids)}
    loops = [
        (row[loop.source_id], row[loop.target_id]) for loop in snapshot.loops if loop.accepted
    ]
    window = o3d.visualization.Visualizer()
    if not window.create_window(f"vggt3 {title}", *size):
        raise no_window
    for geometry in (
        points,
        lines(centres, np.stack([order[:-1], order[1:]], axis=1), (0.9, 0.25, 0.1)),
        lines(centres, loops, (0.2, 0.7, 0.3)),
        o3d.geometry.TriangleMesh.create_coordinate_frame(0.3),
    ):
        window.add_geometry(geometry)
    window.run()
    window.destroy_window()
