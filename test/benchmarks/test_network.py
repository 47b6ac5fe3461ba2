"""The network benchmark measures what it says and prints it as JSON."""

import argparse
import json

import pytest
import torch
from tiny_network import SIZE, one_thread, tiny_config  # noqa: F401

from vggt3_ros.benchmarks import network as benchmark
from vggt3_ros.cli.benchmark import network as benchmark_network


def test_growth_exponent_of_known_laws():
    def rows(law):
        return [{"images": n, "seconds": law(n)} for n in (32, 64, 128)]

    assert benchmark.growth_exponent(rows(lambda n: 3 * n)) == pytest.approx(1.0)
    assert benchmark.growth_exponent(rows(lambda n: n**2)) == pytest.approx(2.0)
    assert benchmark.growth_exponent(rows(lambda n: n)[:1]) is None


def test_the_command_prints_all_it_measured(capsys, monkeypatch):
    monkeypatch.setitem(
        benchmark.SETTINGS,
        "small",
        benchmark.Setting(tiny_config(depth=1, tapped_layers=(0,) * 4), SIZE),
    )
    monkeypatch.setattr(
        benchmark,
        "matrix_rate",
        lambda device, dtype: {torch.float32: 2e12, torch.bfloat16: 1e12}[dtype],
    )
    monkeypatch.setattr(benchmark_network, "_QUERY_MAPS", (3,))
    parser = argparse.ArgumentParser()
    benchmark_network.add_parser(parser.add_subparsers())
    arguments = [
        "network",
        "--images",
        "1,2",
        "--repeat",
        "1",
        "--plain-images",
        "1",
        "--device",
        "cpu",
        "--json",
    ]
    parsed = parser.parse_args(arguments)
    assert parsed.run(parsed) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["dtype"] == "float32"
    for kind in ("ttt", "softmax"):
        rows = result["map"][kind]["rows"]
        assert [row["images"] for row in rows] == [1, 2]
        # of a single round
        assert all(
            row["fraction_of_matrix_product"] == pytest.approx(row["tflops"] / 2) for row in rows
        )
        assert result["map"][kind]["plain"]["speedup"] > 0
    assert result["query"][0]["mapped_images"] == 3


def test_memory_is_measured_in_a_process_of_its_own():
    setting = benchmark.Setting(tiny_config(depth=1, tapped_layers=(0,) * 4), SIZE)
    row = benchmark.measure_memory(setting, 3, torch.device("cpu"), torch.float32, None)
    depth_and_confidence = 2 * 3 * SIZE[0] * SIZE[1] * 4
    assert depth_and_confidence < row["outputs"] < depth_and_confidence + 2**21
    assert row["peak"] >= row["before"] > 50 << 20  # the encoder alone has 22 M parameters


@pytest.mark.parametrize("text", ["0", "a", "3,-1"])
def test_image_counts_must_be_positive_numbers(text, capsys):
    parser = argparse.ArgumentParser()
    benchmark_network.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["network", "--images", text])
