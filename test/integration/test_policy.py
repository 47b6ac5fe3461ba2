"""config/policy.xml lets through what the node has, and nothing else; broken messages over DDS are
counted and the next good one taken.
"""

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from random_keyframes import make_keyframe
from rclpy.serialization import serialize_message
from ros_graph import until

from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds
from vggt3_ros.ros.input.input_config import InputConfig
from vggt3_ros.ros.load.malformed import noise, spoil
from vggt3_ros.ros.load.mischief import unusable
from vggt3_ros.system.checked import describe

POLICY = Path(__file__).parents[2] / "config" / "policy.xml"
QUALIFIERS = {
    "topics": {"publish", "subscribe"},
    "services": {"reply", "request"},
    "actions": {"execute", "call"},
}
NODE, LISTENER = "vggt3_ros", "vggt3_ros_input"  # of one process, and so of one enclave
INPUTS = [
    {},
    {"input__source": "odometry", "input__depth_transport": "raw"},
    {
        "input__source": "pose",
        "input__image_transport": "compressed",
        "input__depth_transport": "compressedDepth",
        "use_sim_time": True,
    },
    {"input__source": "pose_with_covariance", "input__depth_transport": "stereo"},
    {
        "input__source": "odometry",
        "input__image_transport": "compressed",
        "input__depth_transport": "stereo",
    },
]


def allowed():
    """{(qualifier, full name)} that the policy allows, actions as what they consist of."""
    found = set()
    for group in ET.parse(POLICY).getroot().find("enclaves/enclave/profiles/profile"):
        for entry in group:
            name = entry.text.strip()
            name = (
                f"/{NODE}/{name[1:]}"
                if name.startswith("~")
                else name
                if name.startswith("/")
                else f"/{name}"
            )
            for qualifier in group.attrib:
                found |= (
                    {(qualifier, name)}
                    if group.tag != "actions"
                    else {
                        *(
                            ("reply", f"{name}/_action/{part}")
                            for part in ("send_goal", "cancel_goal", "get_result")
                        ),
                        *(
                            ("publish", f"{name}/_action/{part}")
                            for part in ("feedback", "status")
                        ),
                    }
                )
    return found


def used(graph):
    """By topic, not by node: nodes of earlier tests, which have the same name, may still be in the
    graph with nothing of their own.
    """
    found = set()
    ends = (
        (graph.client.get_publishers_info_by_topic, {"rt": "publish", "rq": "request"}),
        (graph.client.get_subscriptions_info_by_topic, {"rt": "subscribe", "rq": "reply"}),
    )
    for topic, _ in graph.client.get_topic_names_and_types(no_demangle=True):
        for info_of, qualifiers in ends:
            if topic[:2] in qualifiers and any(
                info.node_name in (NODE, LISTENER) for info in info_of(topic, no_mangle=True)
            ):
                found.add(
                    (
                        qualifiers[topic[:2]],
                        topic[2:].removesuffix("Request") if topic[:2] == "rq" else topic[2:],
                    )
                )
    return found


def test_the_policy_is_well_formed():
    """As policy.xsd of sros2 has it."""
    root = ET.parse(POLICY).getroot()
    assert (root.tag, root.attrib) == ("policy", {"version": "0.2.0"})
    assert [child.tag for child in root] == ["enclaves"] and [child.tag for child in root[0]] == [
        "enclave"
    ]
    enclave = root[0][0]
    assert enclave.attrib == {"path": "/vggt3_ros"} and [child.tag for child in enclave] == [
        "profiles"
    ]
    (profile,) = enclave[0]
    assert (profile.tag, profile.attrib) == ("profile", {"ns": "/", "node": NODE})
    for group in profile:
        assert (
            group.attrib
            and set(group.attrib) <= QUALIFIERS[group.tag]
            and set(group.attrib.values()) == {"ALLOW"}
        )
        assert len(group) and {entry.tag for entry in group} == {group.tag[:-1]}
        names = [entry.text for entry in group]
        assert len(set(names)) == len(names) and not any("*" in name for name in names)


def test_all_the_node_has_is_allowed_and_nothing_else(graph):
    sources = {values.get("input__source", "keyframes") for values in INPUTS}
    assert sources == set(describe(InputConfig)["source"]["choices"])
    seen = set()
    for values in INPUTS:
        backend = graph.backend(wait=False, **values)
        wanted = (
            "subscribe",
            "/clock"
            if "use_sim_time" in values
            else "/keyframes"
            if not values
            else "/camera_info",
        )
        until(
            lambda: (
                wanted in used(graph) and ("reply", "/refine/_action/get_result") in used(graph)
            )
        )
        seen |= (now := used(graph))
        assert not now - allowed()
        graph.stop(backend)
    assert seen == allowed()


def test_a_flood_of_broken_messages_then_a_good_one(graph):
    backend = graph.backend(odom_frame="odom")
    rng, broken = random.Random(5), []
    while len(broken) < 150:
        message = from_keyframe(make_keyframe(len(broken)))
        for _ in range(rng.randint(1, 3)):
            spoil(message, rng)
        candidate = noise(message, rng) if len(broken) % 3 == 0 else message
        if unusable(candidate):
            broken.append(candidate)
    for number, message in enumerate(broken):
        graph.keyframes.publish(message)
        if number % 10 == 9:  # within the queue, so that each arrives
            until(lambda: backend._core.intake.refused > number - 20)
    graph.keyframes.publish(serialize_message(from_nanoseconds(1)))  # another type's bytes
    until(lambda: backend._core.intake.refused == len(broken) + 1)
    assert f"not a valid {NODE}/msg/Keyframe message" in backend._core.intake.last_refusal
    assert not backend._core.store.ids()
    good = make_keyframe(500)
    graph.send(good)
    until(lambda: backend._core.store.ids() == [500])
    np.testing.assert_array_equal(backend._core.store.get(500).image, good.image)
    status = graph.status()
    until(lambda: status and status[-1].keyframes == 1)
    assert status[-1].refused == len(broken) + 1 and status[-1].received == len(broken) + 2


@pytest.mark.parametrize("source", ["odometry", "pose"])
def test_broken_messages_on_plain_topics_are_counted_and_named(graph, source):
    from camera_rig import POSES, CameraRig

    rig = CameraRig(graph, source=source)
    backend = graph.backend(
        wait=False,
        input__source=source,
        input__base_to_camera="0 0 0 0 0 0 1",
        selection__translation=0.001,
    )
    rig.meet(backend)
    before, rng = backend._core.intake.refused, random.Random(7)
    publisher = graph.client.create_publisher(*POSES[source], qos.EVENTS)
    until(publisher.get_subscription_count)
    message = POSES[source][0]()
    for _ in range(20):
        publisher.publish(noise(message, rng)[:8])
    until(lambda: backend._core.intake.refused >= before + 20)
    assert publisher.topic_name in backend._core.intake.last_refusal
    for ms in range(0, 400, 20):
        rig.pose(ms)
    for number in range(3):
        rig.image(number, number * 100)
    until(lambda: len(backend._core.store) >= 2)
