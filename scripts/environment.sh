# Sourced by the other scripts (bash): the environment in which everything of this package runs.
# Sets ROOT; reads ROS_DISTRO (a sourced ROS 2 distribution) and VGGT3_PYTHON (the interpreter .venv is made with).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

activate() {
    . "$VENV/bin/activate"
    if [ -z "${ROS_DISTRO:-}" ]; then # the wheels make the venv an ament prefix; other ROS workspaces would not match them
        export AMENT_PREFIX_PATH=$VENV CMAKE_PREFIX_PATH=$VENV LD_LIBRARY_PATH=$VENV/lib PYTHONPATH=
        export ROS_VERSION=2 ROS_PYTHON_VERSION=3
        unset _ROS_WHEELS_BOOTSTRAP_COMPLETE # of a Python this is run from: the wheels' own would take LD_LIBRARY_PATH to be complete
    fi
    local prefix
    for prefix in "$ROOT/.underlay/install" "$ROOT/install"; do
        if [ -f "$prefix/local_setup.bash" ]; then
            set +u
            . "$prefix/local_setup.bash"
            set -u
        fi
    done
    export PYTHONPATH=$ROOT:${PYTHONPATH:-} # the checkout itself, so that a new file needs no build
    export PATH=$ROOT/install/vggt3_ros/lib/vggt3_ros:$PATH
}

# torch on a CPU is ten times slower without the first two: glibc gives large tensors back to the kernel after every step, and libgomp
# spins at barriers while another process wants the core; numpy's own threads only get in the way of torch's.
# vggt3_ros/system/environment.py does the same for the worker.
set_traps() {
    local allocator
    # awk reads to the end: ldconfig, cut off, would end the script by SIGPIPE now and then.
    allocator=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | awk '/libjemalloc\.so\.2/ && !found++ {print $NF}')
    if [ -n "$allocator" ] && [[ ${LD_PRELOAD:-} != *jemalloc* ]]; then
        export LD_PRELOAD=$allocator${LD_PRELOAD:+:$LD_PRELOAD}
        export MALLOC_CONF=${MALLOC_CONF:-dirty_decay_ms:-1,muzzy_decay_ms:-1}
    fi
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
}
