"""vggt3 checkpoint: inspect a network checkpoint, or check the network against a parity case."""

import argparse
import dataclasses
import json

from vggt3_ros.cli import SubParsers
from vggt3_ros.network.licences import FOR_CHECKPOINT

_LICENCES = "This package contains no weights. Compatible ones:\n" + "\n".join(
    f"  {weights}" for weights in FOR_CHECKPOINT
)


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "checkpoint",
        help="inspect network weights, check the network",
        description=_LICENCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    inspect = actions.add_parser(
        "inspect",
        help="show configuration, size and completeness of a checkpoint",
        description=_LICENCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument(
        "checkpoint", metavar="PATH", help="file, folder or hub id (owner/name[@revision])"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=run_inspect)

    parity = actions.add_parser("parity", help="compare the network with stored reference outputs")
    parity.add_argument("case", metavar="CASE.npz", help="parity case")
    parity.add_argument(
        "--json", action="store_true", help='print {"relative_error": {output: value}}'
    )
    parity.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest accepted error (default %(default)g)",
    )
    parity.set_defaults(run=run_parity)


def run_inspect(arguments: argparse.Namespace) -> int:
    """Return 0 if every tensor is present, else 1."""
    from vggt3_ros.network.checkpoint import inspect_checkpoint

    found = inspect_checkpoint(arguments.checkpoint)
    report = found.report
    if arguments.json:
        content = {
            "files": [str(file) for file in found.files],
            "bytes": found.file_bytes,
            "parameters": found.parameters,
            "dtypes": dict(found.dtypes),
            "config": dataclasses.asdict(found.config),
            "ignored": len(found.ignored),
            "missing": report.missing,
            "unexpected": report.unexpected,
            "misshaped": report.misshaped,
            "licence": found.licence,
        }
        print(json.dumps(content, indent=2))
        return int(report.problems > 0)
    print(
        f"files       {', '.join(str(file) for file in found.files)} ({found.file_bytes / 1e9:.2f} GB)"
    )
    print(f"attention   {found.config.attention.name.lower().replace('_', ' ')}")
    print(
        f"encoder     {found.config.encoder}, {found.config.depth} layers, {found.config.num_heads} heads"
    )
    print(
        f"parameters  {found.parameters:,} in {', '.join(f'{n} {dtype}' for dtype, n in found.dtypes.items())} tensors"
    )
    print(f"unused      {len(found.ignored)} tensors")
    print(f"tensors     {report}")
    print(f"licence     {found.licence}")
    return int(report.problems > 0)


def run_parity(arguments: argparse.Namespace) -> int:
    """Return 0 if every output is within the tolerance, else 1."""
    from vggt3_ros.network.parity import run_case

    result = run_case(arguments.case)
    errors = result.relative_error
    passed = bool(errors) and all(error <= arguments.tolerance for error in errors.values())
    if arguments.json:
        extra = {"not_compared": result.not_compared, "unknown_config": result.unknown_config}
        print(
            json.dumps(
                {
                    "relative_error": errors,
                    **{name: names for name, names in extra.items() if names},
                }
            )
        )
        return 0 if passed else 1
    for name, error in errors.items():
        print(f"{error:9.2e}  {name}")
    for name in result.not_compared:
        print(f"{'-':>9}  {name}: this network has no such output")
    if result.unknown_config:
        print(f"ignored config entries: {', '.join(result.unknown_config)}")
    print(f"{'within' if passed else 'NOT within'} {arguments.tolerance:g}")
    return 0 if passed else 1
